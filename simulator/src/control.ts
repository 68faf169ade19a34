/**
 * The control endpoints, for whoever runs the simulator: faults, pace and the log of what was served. They ask for no
 * key, which is why the simulator listens on loopback unless told otherwise.
 */
import type { IncomingMessage } from "node:http";
import { z } from "zod";
import { faultRuleSchema } from "./faults.ts";
import type { FaultBoard } from "./faults.ts";
import type { Pace } from "./pacing.ts";
import { readBody } from "./request-body.ts";
import type { ServedLog } from "./served-log.ts";

export interface ControlParts {
  readonly faults: FaultBoard;
  readonly served: ServedLog;
  readonly pace: Pace;
}

export interface ControlReply {
  readonly status: number;
  readonly body: unknown;
}

const paceSchema = z
  .strictObject({
    first_token_ms: z.int().min(0).max(3_600_000).optional(),
    tokens_per_second: z.number().min(0).max(1_000_000).optional(),
  })
  .refine((pace) => Object.keys(pace).length > 0, "give first_token_ms, tokens_per_second or both");

const limitSchema = z.coerce.number().int().min(0).max(10_000);

/** Answers one control request; what is wrong with it is said in a 400. */
export async function control(request: IncomingMessage, url: URL, parts: ControlParts): Promise<ControlReply> {
  switch (`${request.method ?? ""} ${url.pathname}`) {
    case "POST /control/faults":
      return withBody(request, faultRuleSchema, (rule) => ({ status: 201, body: parts.faults.set(rule) }));
    case "GET /control/faults":
      return { status: 200, body: { faults: parts.faults.list() } };
    case "DELETE /control/faults":
      parts.faults.clear();
      return { status: 200, body: { faults: [] } };
    case "PATCH /control/pace":
      return withBody(request, paceSchema, (pace) => {
        parts.pace.change({
          ...(pace.first_token_ms === undefined ? {} : { firstTokenMs: pace.first_token_ms }),
          ...(pace.tokens_per_second === undefined ? {} : { tokensPerSecond: pace.tokens_per_second }),
        });
        return { status: 200, body: paceBody(parts.pace) };
      });
    case "GET /control/pace":
      return { status: 200, body: paceBody(parts.pace) };
    case "GET /control/served": {
      const limit = limitSchema.safeParse(url.searchParams.get("limit") ?? 100);
      if (!limit.success) return refused("limit must be a whole number from 0 to 10000");
      return { status: 200, body: { totals: parts.served.totals(), served: parts.served.list(limit.data) } };
    }
    case "DELETE /control/served":
      parts.served.clear();
      return { status: 200, body: { totals: parts.served.totals(), served: [] } };
    default:
      return controlOne(request, url, parts);
  }
}

/** The requests whose path names one fault. */
function controlOne(request: IncomingMessage, url: URL, { faults }: ControlParts): ControlReply {
  const id = /^\/control\/faults\/([\w-]+)$/u.exec(url.pathname)?.[1];
  if (request.method === "DELETE" && id !== undefined) {
    return faults.unset(id)
      ? { status: 200, body: { faults: faults.list() } }
      : { status: 404, body: { error: { message: `${id} is not a fault in force` } } };
  }
  return {
    status: 404,
    body: { error: { message: `${request.method ?? ""} ${url.pathname} is not a control endpoint` } },
  };
}

async function withBody<T>(
  request: IncomingMessage,
  schema: z.ZodType<T>,
  answer: (input: T) => ControlReply,
): Promise<ControlReply> {
  const body = await readBody(request);
  if (body.kind !== "json") return refused("the body must be JSON of at most 20 MB");
  const parsed = schema.safeParse(body.value);
  return parsed.success ? answer(parsed.data) : refused(parsed.error.issues.map(describeIssue).join("; "));
}

function describeIssue(issue: z.core.$ZodIssue): string {
  const place = issue.path.join(".");
  return place === "" ? issue.message : `${place}: ${issue.message}`;
}

function refused(message: string): ControlReply {
  return { status: 400, body: { error: { message } } };
}

function paceBody(pace: Pace): unknown {
  return { first_token_ms: pace.settings.firstTokenMs, tokens_per_second: pace.settings.tokensPerSecond };
}
