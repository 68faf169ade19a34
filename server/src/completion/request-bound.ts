import { BrikkError } from "../errors.ts";
import type { CatalogueModel } from "../ledger/model-catalogue.ts";
import type { ReservationRequest } from "../ledger/ledger.ts";
import type { RequestBound } from "../ledger/request-cost.ts";
import type { TokenCounter } from "../ledger/token-count.ts";
import { type CompletionRequest, withoutPictures } from "./completion-request.ts";
import type { Route } from "./model-router.ts";

/**
 * The most that a request can use, known before anybody is asked. What cannot be bounded, such as a document that the vendor
 * reads from elsewhere, cannot be held to a budget and is refused.
 *
 * - No byte-level tokenizer makes more tokens than there are bytes, and what a chat form adds around a message is less than the
 *   JSON around it. So the body's bytes bound everything that is text, tools and schemas included.
 * - A picture counts as many tokens as its vendor documents at most, whatever its size; the bytes it was sent in count for nothing.
 * - A prediction is billed as output where the model does not follow it.
 */
export function boundRequest(request: CompletionRequest): RequestBound {
  const { images, imageBytes } = request.operation === "chat" ? inspectContent(request) : NO_IMAGES;
  const textBytes = request.document.bytes.length - imageBytes;
  const prediction = request.document.value["prediction"];
  return {
    inputTokens: (model) => textBytes + images * model.maxImageTokens,
    outputTokens: (model) =>
      request.operation === "embeddings"
        ? 0
        : (request.maxOutputTokens ?? model.maxOutputTokens ?? model.contextTokens ?? MAX_UNDOCUMENTED_OUTPUT_TOKENS),
    extraOutputTokens: prediction == null ? 0 : Buffer.byteLength(JSON.stringify(prediction)),
    choices: request.choices,
  };
}

/** What the ledger needs to know of a request to set its worst case aside. */
export function spendingOf(
  tokenCounter: TokenCounter,
  request: CompletionRequest,
  route: Route,
): Pick<ReservationRequest, "candidates" | "bound" | "tighten"> {
  const candidates = route.candidates.map(({ model }) => model);
  const bound = boundRequest(request);
  return { candidates, bound, tighten: () => tightenBound(request, bound, candidates, tokenCounter) };
}

/** A model without a documented limit may fill its context; without that either, no model known today says more at once. */
const MAX_UNDOCUMENTED_OUTPUT_TOKENS = 1_000_000;
/** What a vendor may add around a request: names of roles, the start of the answer, a note on the date. */
const FRAME_TOKENS = 64;

/**
 * The same bound with the input counted, for models whose encoding is known. Counts the body as JSON, which is never less than
 * what the model reads of it.
 */
export async function tightenBound(
  request: CompletionRequest,
  bound: RequestBound,
  candidates: readonly CatalogueModel[],
  tokenCounter: TokenCounter,
): Promise<RequestBound> {
  if (!candidates.some(({ encoding }) => encoding !== undefined)) return bound;
  const { value } = request.document;
  const text = JSON.stringify(
    request.operation === "chat" ? { ...value, messages: withoutPictures(value["messages"]) } : value,
  );
  const counted = await tokenCounter.countExactly([text]);
  if (counted === undefined) return bound;
  const { images } = request.operation === "chat" ? inspectContent(request) : NO_IMAGES;
  // A hundredth more, because the text was counted in pieces.
  const textTokens = counted + Math.ceil(counted / 100) + FRAME_TOKENS;
  return {
    ...bound,
    inputTokens: (model) =>
      model.encoding === undefined
        ? bound.inputTokens(model)
        : Math.min(bound.inputTokens(model), textTokens + images * model.maxImageTokens),
  };
}

interface ImageCount {
  readonly images: number;
  /** Bytes of the body that are pictures. */
  readonly imageBytes: number;
}

const NO_IMAGES: ImageCount = { images: 0, imageBytes: 0 };
/** Parts whose content is in the body, and pictures. */
const BOUNDED_PARTS: ReadonlySet<unknown> = new Set([
  "text",
  "refusal",
  "thinking",
  "reference",
  "image_url",
  "input_audio",
]);
/** Tools that the caller runs. A vendor's own read and bill what nobody here can see. */
const BOUNDED_TOOLS: ReadonlySet<unknown> = new Set(["function", "custom"]);

interface Part {
  readonly type?: unknown;
  readonly image_url?: unknown;
}

function inspectContent({ document: { value } }: CompletionRequest): ImageCount {
  let images = 0;
  let imageBytes = 0;
  for (const [index, tool] of listOf(value["tools"]).entries()) {
    const type = (tool as Part | null)?.type;
    if (!BOUNDED_TOOLS.has(type)) throw unbounded(`tools[${index}].type`, `A tool of type "${nameOf(type)}"`);
  }
  if (value["web_search_options"] != null) throw unbounded("web_search_options", "A search of the vendor's own");
  for (const [index, message] of listOf(value["messages"]).entries()) {
    const { content, audio } = message as { content?: unknown; audio?: unknown };
    // The id of an earlier answer, which the vendor puts in its place.
    if (audio != null) throw unbounded(`messages[${index}].audio`, "An earlier answer's sound");
    if (!Array.isArray(content)) continue;
    for (const [place, part] of (content as (Part | null)[]).entries()) {
      const type = part?.type;
      if (!BOUNDED_PARTS.has(type))
        throw unbounded(`messages[${index}].content[${place}].type`, `A part of type "${nameOf(type)}"`);
      if (type !== "image_url") continue;
      images += 1;
      imageBytes += inlineBytes(part?.image_url);
    }
  }
  return { images, imageBytes };
}

/** Bytes of a picture that stands in the body itself: at least so many, however it is escaped. */
function inlineBytes(image: unknown): number {
  const url = typeof image === "object" && image !== null && "url" in image ? image.url : image;
  return typeof url === "string" && url.startsWith("data:") ? Buffer.byteLength(url) : 0;
}

const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const nameOf = (type: unknown): string => (typeof type === "string" ? type.slice(0, 64) : "unknown");

const unbounded = (param: string, what: string): BrikkError =>
  new BrikkError(
    "invalid_request",
    `${what} can cost any amount, so it cannot be held to a budget and is refused. Send what it stands for as text or pictures.`,
    { param },
  );
