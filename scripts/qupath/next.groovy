// Open the image of the project that the server wants to be outlined next. An argument is another strategy: random.
import javafx.application.Platform
import qupath.lib.gui.QuPathGUI
import qupath.lib.scripting.QP
import qupath.lib.scripting.ScriptAttributes

def labels = evaluate(new File(new File(getProperty(ScriptAttributes.FILE_PATH)).parentFile, "label_server.groovy"))
def strategy = binding.hasVariable("args") && args ? args[0] : "disagreement"

labels.attempt {
    if (QP.getProject() == null) {
        throw new IllegalStateException("No project is open; make one of the images in the folder of the label server.")
    }
    def name = labels.json("POST", "/activelearning/${strategy}", [:])?.id
    if (name == null) throw new IllegalStateException("All images of the server have a label.")
    def entry = QP.getProject().getImageList().find { labels.nameOf(it.getURIs().first()) == name }
    if (entry == null) throw new IllegalStateException("The next image is ${name}; add it to the project first.")
    Platform.runLater { QuPathGUI.getInstance().openImageEntry(entry) }
    println "Next: ${name}."
}
