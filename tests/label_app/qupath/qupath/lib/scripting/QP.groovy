package qupath.lib.scripting

/** The open image, its objects and the selection, as far as the scripts ask for them; set by session.groovy. */
class QP {
    static Object imageData, project, selectedROI
    static List annotations = []

    static Object getCurrentImageData() { imageData }
    static Object getProject() { project }
    static Object getSelectedROI() { selectedROI }
    static Collection getAnnotationObjects() { annotations }
    static void addObjects(Collection objects) { annotations.addAll(objects) }
}
