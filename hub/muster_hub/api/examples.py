"""Values that schemas of the API's document describe, for its pages. Pure."""

from typing import Any

Plain = dict[str, Any]
EXAMPLE_DEPTH_MAX = 6


def resolve(schema: Plain, schemas: Plain) -> Plain:
    """The schema that a reference leads to."""
    while "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    return schema


def example(schema: Plain, schemas: Plain, depth: int = 0) -> Any:
    """A value that the schema allows: its own example, else one made of its parts."""
    schema = {**resolve(schema, schemas), **schema}
    choices = [item for item in schema.get("anyOf", []) if item.get("type") != "null"]
    said = [*schema.get("examples", []), *schema.get("enum", [])]
    if said:
        return said[0]
    if choices:
        return example(choices[0], schemas, depth)
    if "default" in schema:
        return schema["default"]
    match schema.get("type"):
        case "object" if depth < EXAMPLE_DEPTH_MAX:
            parts = schema.get("properties", {})
            return {name: example(part, schemas, depth + 1) for name, part in parts.items()}
        case "array" if depth < EXAMPLE_DEPTH_MAX:
            return [example(schema.get("items", {}), schemas, depth + 1)]
        case kind:
            return _EMPTY.get(str(kind))


_EMPTY: Plain = {
    "object": {}, "array": [], "string": "…", "integer": 1, "number": 1.0, "boolean": True,
}  # fmt: skip
