//! The tags of the resource group: `…/providers/Microsoft.Resources/tags/default`.

use serde_json::json;

use super::vms::read_tags;
use crate::virtual_azure::answer::{Answer, Call, Denial};
use crate::virtual_azure::cloud::Cloud;

impl Cloud {
    /// Reads the tags, or changes them: `PATCH` merges, replaces or deletes, `PUT` replaces.
    pub(super) fn group_tags(&mut self, call: &Call) -> Result<Answer, Denial> {
        let method = call.method.as_str();
        if !matches!(method, "GET" | "PUT" | "PATCH" | "DELETE") {
            let message = format!("The method {method} is not supported.");
            return Err(Denial::new(405, "MethodNotAllowed", message));
        }
        if method == "DELETE" {
            self.group_tags.clear();
        }
        if matches!(method, "PUT" | "PATCH") {
            let body = call.json()?;
            let Some(tags) = read_tags(&body["properties"])? else {
                return Err(Denial::invalid("properties.tags", "is missing"));
            };
            match (method, body["operation"].as_str()) {
                ("PUT", _) | (_, Some("Replace")) => self.group_tags = tags,
                (_, Some("Merge")) => self.group_tags.extend(tags),
                (_, Some("Delete")) => self.group_tags.retain(|name, _| !tags.contains_key(name)),
                _ => {
                    let problem = "must be Merge, Replace or Delete";
                    return Err(Denial::invalid("operation", problem));
                }
            }
        }
        Ok(Answer::ok(json!({
            "id": format!("{}/providers/Microsoft.Resources/tags/default", self.group_path()),
            "name": "default",
            "type": "Microsoft.Resources/tags",
            "properties": {"tags": self.group_tags},
        })))
    }
}
