import { isDeepStrictEqual } from "node:util";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type JsonObject = { [key: string]: Json };

const PREFIX = "#/components/schemas/";

/**
 * What zod writes for OpenAPI 3.0, as a strict reader wants it: every registered schema comes out twice, as what is sent and as
 * what is answered, of which mostly one is used, and else mostly one is the other's copy; a reference may come wrapped into an
 * `allOf` of its own; and `nullable` says nothing there without a `type` beside it
 * (https://spec.openapis.org/oas/v3.0.4.html#fixed-fields-20). A body that may be null may be left out.
 */
export function tidyDocument(document: object): JsonObject {
  const tidy = structuredClone(document) as JsonObject & { components?: { schemas?: JsonObject } };
  const schemas = tidy.components?.schemas;
  if (schemas === undefined) return tidy;
  letBodiesBeLeftOut(tidy);
  pushNullableDown(tidy);
  listNullInEnums(tidy);
  unwrapReferences(tidy);

  const used = reachable(tidy, schemas);
  for (const name of Object.keys(schemas)) if (!used.has(name)) delete schemas[name];
  const shorter = new Map<string, string>();
  for (const name of Object.keys(schemas)) {
    const short = name.replace(/Input$/, "");
    if (short === name || (short in schemas && !isDeepStrictEqual(schemas[short], schemas[name]))) continue;
    shorter.set(PREFIX + name, PREFIX + short);
    schemas[short] ??= schemas[name]!;
    delete schemas[name];
  }
  eachReference(tidy, (holder, target) => {
    holder["$ref"] = shorter.get(target) ?? target;
  });
  return tidy;
}

/** The schemas that the paths lead to, directly or through each other. */
function reachable(document: JsonObject, schemas: JsonObject): ReadonlySet<string> {
  const used = new Set<string>();
  const follow = (value: Json): void =>
    eachReference(value, (_holder, target) => {
      const name = target.slice(PREFIX.length);
      if (!target.startsWith(PREFIX) || used.has(name)) return;
      used.add(name);
      follow(schemas[name] ?? null);
    });
  follow(document["paths"] ?? null);
  return used;
}

function eachReference(value: Json, found: (holder: JsonObject, target: string) => void): void {
  eachObject(value, (holder) => {
    if (typeof holder["$ref"] === "string") found(holder, holder["$ref"]);
  });
}

function letBodiesBeLeftOut(value: Json): void {
  eachObject(value, ({ requestBody }) => {
    if (!isObject(requestBody)) return;
    eachObject(requestBody["content"] ?? null, (media) => {
      const { schema } = media;
      if (!isObject(schema) || schema["nullable"] !== true) return;
      delete schema["nullable"];
      requestBody["required"] = false;
    });
  });
}

function pushNullableDown(value: Json): void {
  eachObject(value, (schema) => {
    if (schema["nullable"] !== true || "type" in schema || !Array.isArray(schema["anyOf"])) return;
    delete schema["nullable"];
    for (const branch of schema["anyOf"]) if (isObject(branch)) branch["nullable"] = true;
  });
}

/** An enum is a list of all values, `nullable` or not (https://spec.openapis.org/oas/v3.0.4.html#fixed-fields-20). */
function listNullInEnums(value: Json): void {
  eachObject(value, (schema) => {
    const { nullable, enum: values } = schema;
    if (nullable === true && Array.isArray(values) && !values.includes(null)) values.push(null);
  });
}

function unwrapReferences(value: Json): void {
  eachObject(value, (schema) => {
    const { allOf, ...beside } = schema;
    if (!Array.isArray(allOf) || allOf.length !== 1 || Object.keys(beside).length > 0) return;
    const [only] = allOf;
    if (!isObject(only) || typeof only["$ref"] !== "string") return;
    delete schema["allOf"];
    schema["$ref"] = only["$ref"];
  });
}

function eachObject(value: Json, visit: (object: JsonObject) => void): void {
  if (Array.isArray(value)) for (const item of value) eachObject(item, visit);
  if (!isObject(value)) return;
  visit(value);
  for (const item of Object.values(value)) eachObject(item, visit);
}

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);
