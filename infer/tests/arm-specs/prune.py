"""Cuts the official OpenAPI documents down to the operations that the virtual Azure has.

    python3 prune.py SPECIFICATION

SPECIFICATION is the folder `specification` of a checkout of Azure/azure-rest-api-specs. Writes
`operations.json` (for each operation its documents, path, examples and responses) and
`definitions.json` (every definition that they reach, by document and name), without descriptions.
"""

import json
import sys
from pathlib import Path

COMPUTE = "compute/resource-manager/Microsoft.Compute/ComputeRP/stable/2024-07-01"
INSIGHTS = "monitor/resource-manager/Microsoft.Insights/stable"
RESOURCES = "resources/resource-manager/Microsoft.Resources/stable"

SUBSCRIPTION = "/subscriptions/{subscriptionId}"
LOCATION = f"{SUBSCRIPTION}/providers/Microsoft.Compute/locations/{{location}}"
GROUP = f"{SUBSCRIPTION}/resourceGroups/{{resourceGroupName}}"
VMS = f"{GROUP}/providers/Microsoft.Compute/virtualMachines"
VM = f"{VMS}/{{vmName}}"
SETS = f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets"
SET = f"{SETS}/{{vmScaleSetName}}"
INSTANCE = f"{SET}/virtualMachines/{{instanceId}}"

VM_DOC = f"{COMPUTE}/virtualMachine.json"
SET_DOC = f"{COMPUTE}/virtualMachineScaleSet.json"

USED = [
    (VM_DOC, "get", VMS),
    (VM_DOC, "get", f"{SUBSCRIPTION}/providers/Microsoft.Compute/virtualMachines"),
    (VM_DOC, "get", f"{LOCATION}/virtualMachines"),
    (VM_DOC, "get", VM),
    (VM_DOC, "get", f"{VM}/instanceView"),
    (VM_DOC, "get", f"{VM}/vmSizes"),
    (VM_DOC, "put", VM),
    (VM_DOC, "patch", VM),
    (VM_DOC, "delete", VM),
    (VM_DOC, "post", f"{VM}/start"),
    (VM_DOC, "post", f"{VM}/deallocate"),
    (VM_DOC, "post", f"{VM}/powerOff"),
    (VM_DOC, "post", f"{VM}/restart"),
    (f"{COMPUTE}/runCommand.json", "post", f"{VM}/runCommand"),
    (f"{COMPUTE}/computeRPCommon.json", "get", f"{LOCATION}/vmSizes"),
    (f"{COMPUTE}/computeRPCommon.json", "get", f"{LOCATION}/usages"),
    (SET_DOC, "get", SETS),
    (SET_DOC, "get", f"{SUBSCRIPTION}/providers/Microsoft.Compute/virtualMachineScaleSets"),
    (SET_DOC, "get", f"{LOCATION}/virtualMachineScaleSets"),
    (SET_DOC, "get", SET),
    (SET_DOC, "get", f"{SET}/instanceView"),
    (SET_DOC, "patch", SET),
    (SET_DOC, "post", f"{SET}/start"),
    (SET_DOC, "post", f"{SET}/deallocate"),
    (SET_DOC, "post", f"{SET}/restart"),
    (SET_DOC, "post", f"{SET}/poweroff"),
    (SET_DOC, "post", f"{SET}/delete"),
    (SET_DOC, "get", f"{SETS}/{{virtualMachineScaleSetName}}/virtualMachines"),
    (SET_DOC, "get", INSTANCE),
    (SET_DOC, "delete", INSTANCE),
    (SET_DOC, "get", f"{INSTANCE}/instanceView"),
    (SET_DOC, "post", f"{INSTANCE}/deallocate"),
    (SET_DOC, "post", INSTANCE.replace("virtualMachines", "virtualmachines") + "/start"),
    (SET_DOC, "post", INSTANCE.replace("virtualMachines", "virtualmachines") + "/restart"),
    (SET_DOC, "post", INSTANCE.replace("virtualMachines", "virtualmachines") + "/poweroff"),
    (f"{INSIGHTS}/2023-10-01/metrics_API.json", "get",
     "/{resourceUri}/providers/Microsoft.Insights/metrics"),
    (f"{INSIGHTS}/2023-10-01/metrics_API.json", "get",
     f"{SUBSCRIPTION}/providers/Microsoft.Insights/metrics"),
    (f"{INSIGHTS}/2024-02-01/metricDefinitions_API.json", "get",
     "/{resourceUri}/providers/Microsoft.Insights/metricDefinitions"),
    (f"{INSIGHTS}/2024-02-01/metricNamespaces_API.json", "get",
     "/{resourceUri}/providers/microsoft.insights/metricNamespaces"),
    (f"{RESOURCES}/2022-12-01/subscriptions.json", "get", "/subscriptions"),
    (f"{RESOURCES}/2022-12-01/subscriptions.json", "get", SUBSCRIPTION),
    (f"{RESOURCES}/2022-12-01/subscriptions.json", "get", f"{SUBSCRIPTION}/locations"),
    (f"{RESOURCES}/2022-12-01/subscriptions.json", "get", "/tenants"),
    (f"{RESOURCES}/2024-03-01/resources.json", "get", f"{SUBSCRIPTION}/resourcegroups"),
    (f"{RESOURCES}/2024-03-01/resources.json", "get",
     f"{SUBSCRIPTION}/resourcegroups/{{resourceGroupName}}"),
    (f"{RESOURCES}/2024-03-01/resources.json", "put",
     f"{SUBSCRIPTION}/resourcegroups/{{resourceGroupName}}"),
    (f"{RESOURCES}/2024-03-01/resources.json", "get", f"{SUBSCRIPTION}/providers"),
    (f"{RESOURCES}/2024-03-01/resources.json", "get",
     f"{SUBSCRIPTION}/providers/{{resourceProviderNamespace}}"),
    (f"{RESOURCES}/2024-03-01/resources.json", "get", f"{GROUP}/resources"),
]

# Many examples create a VM; these differ most in what they say.
CREATIONS = (
    "WithPasswordAuthentication", "WithSshAuthentication", "WithUserData",
    "WithManagedBootDiagnostics", "WithEmptyDataDisks",
)


class Documents:
    """Loads documents once and collects the definitions that are reached."""

    def __init__(self, root):
        self.root = root
        self.loaded = {}
        self.definitions = {}

    def document(self, name):
        if name not in self.loaded:
            self.loaded[name] = json.loads((self.root / name).read_text("utf-8"))
        return self.loaded[name]

    def target(self, name, reference):
        file, _, pointer = reference.partition("#")
        if file:
            path = (self.root / name).parent / file
            name = str(path.resolve().relative_to(self.root.resolve()))
        return name, pointer

    def resolve(self, name, reference):
        name, pointer = self.target(name, reference)
        value = self.document(name)
        for part in pointer.strip("/").split("/"):
            value = value[part.replace("~1", "/").replace("~0", "~")]
        return name, pointer, value

    def reached(self, name, schema):
        """`schema` with references into `definitions.json`, which are added to it."""
        if isinstance(schema, list):
            return [self.reached(name, item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        if isinstance(schema.get("$ref"), str):
            where, pointer, value = self.resolve(name, schema["$ref"])
            key = f"{Path(where).parent.parent.name}~{Path(where).parent.name}~{Path(where).stem}"
            key = f"{key}~{pointer.rsplit('/', 1)[-1]}"
            if key not in self.definitions:
                self.definitions[key] = None
                self.definitions[key] = self.reached(where, value)
            return {"$ref": f"#/definitions/{key}"}
        dropped = ("x-ms-examples", "externalDocs")
        described = isinstance(schema.get("description"), str)
        if isinstance(schema.get("x-ms-enum"), dict):
            # Whether other values may come is all that matters of it.
            open_set = schema["x-ms-enum"].get("modelAsString", False)
            schema = {**schema, "x-ms-enum": {"modelAsString": open_set}}
        return {
            field: self.reached(name, value)
            for field, value in schema.items()
            if field not in dropped and not (field == "description" and described)
        }


def examples(documents, name, operation):
    found = {}
    for example in operation.get("x-ms-examples", {}).values():
        file = Path(example["$ref"]).name
        if "_Create_" in file and not any(kept in file for kept in CREATIONS):
            continue
        path = (documents.root / name).parent / example["$ref"]
        if path.exists():
            found[file] = json.loads(path.read_text("utf-8"))
    return found


def lines(value):
    """JSON with one entry a line."""
    compact = {"separators": (",", ":"), "sort_keys": True, "ensure_ascii": False}
    if isinstance(value, list):
        return "[\n" + ",\n".join(json.dumps(item, **compact) for item in value) + "\n]\n"
    entries = (f"{json.dumps(key)}:{json.dumps(value[key], **compact)}" for key in sorted(value))
    return "{\n" + ",\n".join(entries) + "\n}\n"


def main():
    documents = Documents(Path(sys.argv[1]))
    operations = []
    for name, method, path in USED:
        operation = documents.document(name)["paths"][path][method]
        parameters = []
        for parameter in operation.get("parameters", []):
            where = name
            if "$ref" in parameter:
                where, _, parameter = documents.resolve(name, parameter["$ref"])
            kept = {key: parameter.get(key) for key in ("name", "in", "required")}
            if "schema" in parameter:
                kept["schema"] = documents.reached(where, parameter["schema"])
            parameters.append(kept)
        responses = {
            status: documents.reached(name, response["schema"]) if "schema" in response else None
            for status, response in operation["responses"].items()
        }
        operations.append({
            "document": name,
            "method": method.upper(),
            "path": path,
            "parameters": parameters,
            "responses": responses,
            "examples": examples(documents, name, operation),
        })
    # What the status of an asynchronous operation looks like stands in no operation.
    common = "common-types/resource-management/v5/types.json"
    documents.reached(common, {"$ref": "#/definitions/OperationStatusResult"})
    here = Path(__file__).parent
    for file, value in (("operations.json", operations), ("definitions.json", documents.definitions)):
        (here / file).write_text(lines(value), "utf-8")


main()
