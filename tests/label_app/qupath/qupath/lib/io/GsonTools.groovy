package qupath.lib.io

import groovy.json.JsonOutput
import groovy.json.JsonSlurper

class GsonTools {
    static GsonTools getInstance() { new GsonTools() }
    String toJson(Object content) { JsonOutput.toJson(content) }
    Object fromJson(String text, Class type) { new JsonSlurper().parseText(text).asType(type) }
}
