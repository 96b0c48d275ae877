"""The example's OpenAPI document, held against the example itself by schemathesis."""
