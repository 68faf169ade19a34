/**
 * Fills a JSON schema with values that look as if they came from a prompt. Covers what tools and structured answers use:
 * objects, arrays, strings with enum or format, numbers with bounds, const, default, anyOf, allOf and local $ref. An
 * unknown construct becomes a string, and recursion ends at a fixed depth.
 */
import { keyPhrase } from "./key-phrase.ts";

export interface SchemaFilling {
  readonly prompt: string;
  /** Whether properties that the schema does not require are left out. */
  readonly properties: "required" | "all";
}

type Schema = Record<string, unknown>;

const DEEPEST = 8;

/** A value of the schema. */
export function fillSchema(schema: unknown, filling: SchemaFilling): unknown {
  return valueOf(schema, "value", { root: asSchema(schema), filling, depth: 0 });
}

interface Position {
  readonly root: Schema;
  readonly filling: SchemaFilling;
  readonly depth: number;
}

function valueOf(input: unknown, name: string, position: Position): unknown {
  const schema = resolve(asSchema(input), position.root);
  if ("const" in schema) return schema["const"];
  const options = schema["enum"];
  if (Array.isArray(options) && options.length > 0) return mentioned(options, position.filling.prompt);
  if ("default" in schema && position.filling.properties === "required") return schema["default"];
  const alternatives = schema["anyOf"] ?? schema["oneOf"];
  if (Array.isArray(alternatives) && alternatives.length > 0) {
    const filled = alternatives.find((alternative) => asSchema(alternative)["type"] !== "null") ?? alternatives[0];
    return valueOf(filled, name, deeper(position));
  }
  const parts = schema["allOf"];
  if (Array.isArray(parts) && parts.length > 0) {
    const merged = parts.map((part) => resolve(asSchema(part), position.root)).reduce(mergeSchemas, schema);
    return valueOf({ ...merged, allOf: undefined }, name, deeper(position));
  }
  switch (typeOf(schema)) {
    case "object":
      return objectOf(schema, position);
    case "array":
      return arrayOf(schema, name, position);
    case "integer":
      return Math.round(numberOf(schema, position.filling.prompt));
    case "number":
      return numberOf(schema, position.filling.prompt);
    case "boolean":
      return true;
    case "null":
      return null;
    default:
      return stringOf(schema, name, position.filling.prompt);
  }
}

function objectOf(schema: Schema, position: Position): Record<string, unknown> {
  const properties = asSchema(schema["properties"]);
  const required = Array.isArray(schema["required"])
    ? schema["required"].filter((name) => typeof name === "string")
    : [];
  const everything = position.filling.properties === "all" && position.depth < DEEPEST;
  const names = everything ? Object.keys(properties) : required;
  const value: Record<string, unknown> = {};
  if (position.depth >= DEEPEST * 2) return value;
  for (const name of names) value[name] = valueOf(properties[name], name, deeper(position));
  return value;
}

function arrayOf(schema: Schema, name: string, position: Position): unknown[] {
  const least = typeof schema["minItems"] === "number" ? schema["minItems"] : 1;
  const most = typeof schema["maxItems"] === "number" ? schema["maxItems"] : 20;
  const length = position.depth >= DEEPEST ? 0 : Math.min(Math.max(least, 1), most, 20);
  return Array.from({ length }, () => valueOf(schema["items"], name, deeper(position)));
}

function numberOf(schema: Schema, prompt: string): number {
  const least = firstNumber(schema["minimum"], schema["exclusiveMinimum"]) ?? Number.NEGATIVE_INFINITY;
  const most = firstNumber(schema["maximum"], schema["exclusiveMaximum"]) ?? Number.POSITIVE_INFINITY;
  const inPrompt = /-?\d{1,9}(?:\.\d{1,6})?/u.exec(prompt)?.[0];
  const wanted = inPrompt === undefined ? 1 : Number(inPrompt);
  if (wanted > least && wanted < most) return wanted;
  if (wanted === schema["minimum"] || wanted === schema["maximum"]) return wanted;
  if (Number.isFinite(least) && Number.isFinite(most)) return (least + most) / 2;
  return Number.isFinite(least) ? least + 1 : most - 1;
}

function stringOf(schema: Schema, name: string, prompt: string): string {
  const format = stringFormat(schema["format"]);
  if (format !== undefined) return format;
  const text = /city|location|place|country|town|destination/iu.test(name) ? placeIn(prompt) : keyPhrase(prompt);
  const least = typeof schema["minLength"] === "number" ? Math.min(schema["minLength"], 10_000) : 0;
  const most = typeof schema["maxLength"] === "number" ? schema["maxLength"] : 200;
  return (text || name).padEnd(least, ".").slice(0, most).toWellFormed();
}

function stringFormat(format: unknown): string | undefined {
  switch (format) {
    case "date":
      return "2026-01-15";
    case "date-time":
      return "2026-01-15T09:30:00Z";
    case "time":
      return "09:30:00Z";
    case "email":
      return "someone@example.com";
    case "uri":
    case "url":
      return "https://example.com/";
    case "uuid":
      return "3f2b8c1e-5d4a-4e6f-9a7b-1c2d3e4f5a6b";
    default:
      return undefined;
  }
}

function placeIn(prompt: string): string {
  const named = /\b(?:in|at|for|to|from|near|en|à|a|nach|für)\s+(\p{Lu}[\p{L}'’-]*(?:[ ,]+\p{Lu}[\p{L}'’-]*)*)/u.exec(
    prompt,
  )?.[1];
  return named ?? /(?<=\s)\p{Lu}[\p{L}'’-]+/u.exec(prompt)?.[0] ?? "Madrid";
}

function mentioned(options: readonly unknown[], prompt: string): unknown {
  const lower = prompt.toLowerCase();
  return options.find((option) => typeof option === "string" && lower.includes(option.toLowerCase())) ?? options[0];
}

function typeOf(schema: Schema): unknown {
  const type = schema["type"];
  if (Array.isArray(type)) return type.find((candidate) => candidate !== "null") ?? "null";
  if (type !== undefined) return type;
  if (schema["properties"] !== undefined) return "object";
  return schema["items"] === undefined ? "string" : "array";
}

function resolve(schema: Schema, root: Schema): Schema {
  let resolved = schema;
  for (let hops = 0; hops < DEEPEST; hops += 1) {
    const reference = resolved["$ref"];
    if (typeof reference !== "string" || !reference.startsWith("#")) return resolved;
    let target: unknown = root;
    for (const step of reference.slice(1).split("/").filter(Boolean)) target = asSchema(target)[step];
    resolved = asSchema(target);
  }
  return {};
}

function mergeSchemas(left: Schema, right: Schema): Schema {
  return {
    ...left,
    ...right,
    properties: { ...asSchema(left["properties"]), ...asSchema(right["properties"]) },
    required: [...asList(left["required"]), ...asList(right["required"])],
  };
}

function deeper(position: Position): Position {
  return { ...position, depth: position.depth + 1 };
}

function asSchema(value: unknown): Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Schema) : {};
}

function asList(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function firstNumber(...values: unknown[]): number | undefined {
  return values.find((value) => typeof value === "number");
}
