package qupath.lib.io

import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import qupath.lib.objects.PathObject

class PathIO {
    enum GeoJsonExportOptions { FEATURE_COLLECTION }

    static List readObjectsFromGeoJSON(InputStream stream) {
        new JsonSlurper().parse(stream).features.collect { new PathObject(feature: it) }
    }

    static void exportObjectsAsGeoJSON(OutputStream stream, Collection objects, GeoJsonExportOptions... options) {
        def content = [type: "FeatureCollection", features: objects*.feature]
        stream.write(JsonOutput.toJson(content).getBytes("UTF-8"))
    }
}
