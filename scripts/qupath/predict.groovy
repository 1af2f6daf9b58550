// Predict glands in the selected annotation, or in the whole image, and add them as annotations.
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO
import qupath.lib.scripting.QP
import qupath.lib.scripting.ScriptAttributes

def labels = evaluate(new File(new File(getProperty(ScriptAttributes.FILE_PATH)).parentFile, "label_server.groovy"))

labels.attempt {
    def name = labels.openImage()
    def roi = QP.getSelectedROI()
    def settings = [output: "geojson", min_poly_area: 30]
    if (roi != null) {
        def corner = [Math.max(Math.floor(roi.boundsX), 0), Math.max(Math.floor(roi.boundsY), 0)]
        def end = [Math.ceil(roi.boundsX + roi.boundsWidth), Math.ceil(roi.boundsY + roi.boundsHeight)]
        settings += [location: corner*.intValue(), size: (0..1).collect { (end[it] - corner[it]).intValue() }]
    }
    def form = "params=" + labels.encoded(GsonTools.getInstance().toJson(settings))
    def path = "/infer/${labels.model()}?image=${labels.encoded(name)}&output=image"
    def text = labels.send("POST", path, form.getBytes("UTF-8"), "application/x-www-form-urlencoded")
    def found = PathIO.readObjectsFromGeoJSON(new ByteArrayInputStream(text.getBytes("UTF-8")))
    // For images that are not slides, the server predicts the whole image.
    found = found.findAll { roi == null || roi.contains(it.getROI().centroidX, it.getROI().centroidY) }
    QP.addObjects(found)
    println "Outlines predicted in ${roi == null ? "all of" : "the selected region of"} ${name}: ${found.size()}."
}
