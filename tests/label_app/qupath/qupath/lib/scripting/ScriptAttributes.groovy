package qupath.lib.scripting

class ScriptAttributes {
    static final String FILE_PATH = "file_path"
}
