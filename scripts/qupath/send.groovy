// Send the annotations of the open image that have a class, as its label; they replace the previous label.
import qupath.lib.io.PathIO
import qupath.lib.scripting.QP
import qupath.lib.scripting.ScriptAttributes

def labels = evaluate(new File(new File(getProperty(ScriptAttributes.FILE_PATH)).parentFile, "label_server.groovy"))

labels.attempt {
    def name = labels.openImage()
    def outlines = QP.getAnnotationObjects().findAll { it.getPathClass() != null }
    if (outlines.isEmpty()) {
        throw new IllegalStateException("No annotation has a class; give the class Gland to all outlines of glands.")
    }
    def stream = new ByteArrayOutputStream()
    PathIO.exportObjectsAsGeoJSON(stream, outlines, PathIO.GeoJsonExportOptions.FEATURE_COLLECTION)
    def path = "/datastore/label?image=${labels.encoded(name)}&tag=final"
    labels.upload(path, "label", "label.geojson", stream.toByteArray())
    println "Outlines saved as the label of ${name}: ${outlines.size()}."
}
