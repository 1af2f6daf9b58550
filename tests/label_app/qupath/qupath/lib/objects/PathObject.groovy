package qupath.lib.objects

/** A feature of GeoJSON, with the methods that the scripts call. */
class PathObject {
    Map feature
    Object getPathClass() { feature.properties.classification }
    Map getROI() {
        def ring = feature.geometry.coordinates.flatten().collate(2)
        [centroidX: ring*.first().sum() / ring.size(), centroidY: ring*.last().sum() / ring.size()]
    }
}
