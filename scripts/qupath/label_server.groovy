// What the scripts of this folder share: requests to the label server, and the name of an image there.
// It does nothing by itself. docs/monai_label.md describes the scripts.
import java.net.http.HttpClient
import java.net.http.HttpRequest
import java.net.http.HttpRequest.BodyPublishers
import java.net.http.HttpResponse.BodyHandlers
import qupath.lib.io.GsonTools
import qupath.lib.scripting.QP

/** Address of the label server; -Dlabel.server=URL in QuPath's JAVA_OPTS gives another one. */
String server() { System.getProperty("label.server", "http://127.0.0.1:8000") }

/** Run an action; if it fails, say why in one line. */
void attempt(Closure action) {
    try {
        action()
    } catch (ConnectException error) {
        println "There is no label server at ${server()}; start it, or change the address in label_server.groovy."
    } catch (IllegalStateException | IOException error) {
        println error.message
    }
}

/** Send a request and return the text of the response. */
String send(String method, String path, byte[] body = new byte[0], String type = "application/json") {
    def request = HttpRequest.newBuilder(URI.create(server() + path)).header("Content-Type", type)
        .method(method, BodyPublishers.ofByteArray(body)).build()
    // HTTP/1.1: the server does not know the upgrade that Java asks for otherwise.
    def client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build()
    def response = client.send(request, BodyHandlers.ofString())
    if (response.statusCode() >= 300) {
        throw new IllegalStateException("The label server refused: ${reason(response.body()) ?: response.statusCode()}")
    }
    return response.body()
}

/** Send JSON, or nothing, and return the JSON of the response. */
Map json(String method, String path, Map content = null) {
    def body = content == null ? "" : GsonTools.getInstance().toJson(content)
    return GsonTools.getInstance().fromJson(send(method, path, body.getBytes("UTF-8")), Map)
}

/** Send a file as a form with the field `key`. */
String upload(String path, String key, String fileName, byte[] content) {
    def border = "border-${UUID.randomUUID()}"
    def body = new ByteArrayOutputStream()
    def disposition = "Content-Disposition: form-data; name=\"${key}\"; filename=\"${fileName}\""
    body.write("--${border}\r\n${disposition}\r\n\r\n".getBytes("UTF-8"))
    body.write(content)
    body.write("\r\n--${border}--\r\n".getBytes("UTF-8"))
    return send("PUT", path, body.toByteArray(), "multipart/form-data; boundary=${border}")
}

/** Name of the served model. */
String model() { json("GET", "/info/").models.keySet().first() }

/** Name that the server gives to an image file in its folder: the file name without extension. */
String nameOf(URI uri) { new File(uri.path).name.replaceFirst(/\.[^.]+$/, "") }

/** Name of the open image on the server. */
String openImage() {
    if (QP.getCurrentImageData() == null) {
        throw new IllegalStateException("No image is open; open one of the folder that the label server serves.")
    }
    return nameOf(QP.getCurrentImageData().getServer().getURIs().first())
}

/** Text as a part of an address or of a form. */
String encoded(Object text) { URLEncoder.encode(text.toString(), "UTF-8") }

private String reason(String text) {
    try {
        return GsonTools.getInstance().fromJson(text, Map).detail
    } catch (RuntimeException error) {
        return text.take(300) // no JSON
    }
}

return this
