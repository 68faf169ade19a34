/**
 * Mistral's errors: `{"object": "error", message, type, param, code}`, where message is a text, or for a body that does
 * not validate (422) an object whose `detail` lists every issue. A refused key has the shape `{"detail": "Unauthorized"}`.
 */
import type { z } from "zod";
import { valueAt } from "./issue-path.ts";
import { Refusal } from "./protocol.ts";
import type { Reply } from "./protocol.ts";

export function mistralError(status: number, message: string, type: string, code: string | null): Reply {
  return { status, body: { object: "error", message, type, param: null, code } };
}

export function refuseMistral(status: number, message: string, type: string, code: string | null): never {
  throw new Refusal(mistralError(status, message, type, code));
}

interface Detail {
  readonly type: string;
  readonly loc: readonly PropertyKey[];
  readonly msg: string;
  readonly input: unknown;
}

/** All validation issues, as Mistral lists them. */
export function mistralIssues(body: unknown, error: z.ZodError): Reply {
  const detail = error.issues.flatMap((issue) => details(body, issue));
  return {
    status: 422,
    body: { object: "error", message: { detail }, type: "invalid_request_error", param: null, code: null },
  };
}

function details(body: unknown, issue: z.core.$ZodIssue): Detail[] {
  const loc = ["body", ...issue.path];
  const input = valueAt(body, issue.path);
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({
      type: "extra_forbidden",
      loc: [...loc, key],
      msg: "Extra inputs are not permitted",
      input: valueAt(body, [...issue.path, key]),
    }));
  }
  if (input === undefined && issue.path.length > 0) {
    return [{ type: "missing", loc, msg: "Field required", input: valueAt(body, issue.path.slice(0, -1)) }];
  }
  return [{ type: issueType(issue), loc, msg: issue.message, input: input ?? null }];
}

function issueType(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "invalid_type":
      return `${issue.expected}_type`;
    case "too_small":
      return "greater_than_equal";
    case "too_big":
      return "less_than_equal";
    case "invalid_union":
      return "union_tag_invalid";
    default:
      return "value_error";
  }
}
