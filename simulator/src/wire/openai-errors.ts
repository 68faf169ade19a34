/**
 * OpenAI's errors: `{"error": {message, type, param, code}}`, where type is the class of the fault and code, when there is
 * one, its exact name.
 */
import type { z } from "zod";
import { valueAt } from "./issue-path.ts";
import { Refusal } from "./protocol.ts";
import type { Reply } from "./protocol.ts";

export interface OpenaiError {
  readonly message: string;
  readonly type?: string;
  readonly param?: string | null;
  readonly code?: string | null;
}

export function openaiError(
  status: number,
  { message, type = "invalid_request_error", param = null, code = null }: OpenaiError,
): Reply {
  return { status, body: { error: { message, type, param, code } } };
}

export function refuseOpenai(status: number, error: OpenaiError): never {
  throw new Refusal(openaiError(status, error));
}

/** The first validation issue in OpenAI's words. */
export function openaiIssue(body: unknown, error: z.ZodError): Reply {
  const issue = error.issues[0];
  const param = issue === undefined ? "" : paramName(issue.path);
  const value = valueAt(body, issue?.path ?? []);
  switch (issue?.code) {
    case "unrecognized_keys": {
      const unknown = paramName([...issue.path, issue.keys[0] ?? ""]);
      return openaiError(400, {
        message: `Unknown parameter: '${unknown}'.`,
        param: unknown,
        code: "unknown_parameter",
      });
    }
    case "invalid_type":
    case "invalid_union":
      if (value === undefined) {
        return openaiError(400, {
          message: `Missing required parameter: '${param}'.`,
          param: param || null,
          code: "missing_required_parameter",
        });
      }
      return openaiError(400, {
        message: `Invalid type for '${param}': ${typeName(value)} is not accepted here.`,
        param: param || null,
        code: "invalid_type",
      });
    case "too_small":
      return openaiError(400, {
        message: `Invalid '${param}': the value is below the minimum of ${issue.minimum}.`,
        param,
        code: `${sizeName(value)}_below_min_${sizeUnit(value)}`,
      });
    case "too_big":
      return openaiError(400, {
        message: `Invalid '${param}': the value is above the maximum of ${issue.maximum}.`,
        param,
        code: `${sizeName(value)}_above_max_${sizeUnit(value)}`,
      });
    default:
      return openaiError(400, {
        message: `Invalid value for '${param}'.`,
        param: param || null,
        code: "invalid_value",
      });
  }
}

function paramName(path: readonly PropertyKey[]): string {
  let name = "";
  for (const step of path) name += typeof step === "number" ? `[${step}]` : `${name === "" ? "" : "."}${String(step)}`;
  return name;
}

function typeName(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "number") return Number.isInteger(value) ? "an integer" : "a decimal";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

function sizeName(value: unknown): string {
  if (Array.isArray(value)) return "array";
  if (typeof value === "string") return "string";
  return Number.isInteger(value) ? "integer" : "decimal";
}

function sizeUnit(value: unknown): string {
  return Array.isArray(value) || typeof value === "string" ? "length" : "value";
}
