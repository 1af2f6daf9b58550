// Train on all labels of the server, wait for the end, and say what was decided. A number as argument: epochs.
import qupath.lib.scripting.ScriptAttributes

def labels = evaluate(new File(new File(getProperty(ScriptAttributes.FILE_PATH)).parentFile, "label_server.groovy"))
def given = binding.hasVariable("args") && args ? args[0] : "50"

labels.attempt {
    if (!given.isInteger()) throw new IllegalStateException("The argument is ${given}; give a number of epochs.")
    def epochs = given.toInteger()
    def model = labels.model()
    labels.json("POST", "/train/${model}", [max_epochs: epochs])
    println "Training started."
    def shown = ""
    while (labels.json("GET", "/train/").status in ["SUBMITTED", "RUNNING"]) {
        def progress = labels.json("GET", "/info/").train_stats[model]?.progress
        def text = progress?.step ? "Epoch ${progress.epoch as int} of ${progress.epochs as int}" : shown
        if (text != shown) println(shown = text)
        sleep(1000)
    }
    def state = labels.json("GET", "/info/").train_stats[model]
    println "Training ${state.state}: ${state.reason ?: "no reason is known"}."
}
