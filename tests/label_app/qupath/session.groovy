// A person in QuPath: open an image, predict, send, train, go on. Arguments: folder of scripts, folder of images.
import qupath.lib.objects.PathObject
import qupath.lib.scripting.QP
import qupath.lib.scripting.ScriptAttributes

def (scripts, images) = args

def run = { String script, String... given ->
    def path = new File(scripts, script)
    println "- ${script}"
    new GroovyShell(getClass().classLoader, new Binding([(ScriptAttributes.FILE_PATH): path.path, args: given])).evaluate(path)
}
def image = { String file -> [getURIs: { [new File(images, file).toURI()] }] }

["predict.groovy", "send.groovy", "next.groovy"].each { run(it) } // nothing is open
QP.imageData = [getServer: { image("oblong_1.png") }]
run("send.groovy") // no annotation
run("predict.groovy")
def whole = QP.annotations
QP.annotations = []
QP.selectedROI = [boundsX: 8.5, boundsY: 0, boundsWidth: 40, boundsHeight: 64.5, contains: { x, y -> x >= 8.5 && x < 48.5 }]
run("predict.groovy")
assert QP.annotations.size() < whole.size()
QP.imageData = [getServer: { image("slide.tif") }]
run("predict.groovy")
QP.imageData = [getServer: { image("oblong_1.png") }]
QP.annotations = whole + new PathObject(feature: [properties: [:], geometry: [type: "Point", coordinates: [1, 1]]])
run("send.groovy")
run("train.groovy", "some")
run("train.groovy", "1")
QP.project = [getImageList: { [] }]
run("next.groovy", "first")
QP.project = [getImageList: { new File(images).list().sort().collect(image) }]
run("next.groovy", "first")
run("next.groovy", "wise")
System.setProperty("label.server", "http://127.0.0.1:9")
run("train.groovy")
