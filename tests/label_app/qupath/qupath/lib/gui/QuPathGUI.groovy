package qupath.lib.gui

class QuPathGUI {
    static QuPathGUI getInstance() { new QuPathGUI() }
    void openImageEntry(Object entry) { println "opened ${entry.getURIs().first()}" }
}
