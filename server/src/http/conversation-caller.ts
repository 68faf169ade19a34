import type { FastifyReply, FastifyRequest } from "fastify";
import type { ConversationCaller } from "../conversations/hold-conversation.ts";
import { BrikkError } from "../errors.ts";
import type { Standing } from "../ledger/budget-standing.ts";
import { refusedHeaders } from "./answer-headers.ts";

/** Who asks for a conversation; the first turn is the request that was let in. */
export const callerOf = (request: FastifyRequest): ConversationCaller => ({
  key: request.key,
  remoteAddress: request.ip,
  requestId: request.id,
  traceId: request.trace.traceId,
  admission: request.admission,
});

/** The refusal of a conversation that did not begin, with the headers that a request's would have. */
export function refusedConversation(error: unknown, reply: FastifyReply, standing: Standing): unknown {
  if (error instanceof BrikkError && error.code === "hard_cap_exceeded") reply.headers(refusedHeaders(standing));
  return error;
}
