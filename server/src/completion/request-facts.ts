import type { JsonDocument } from "../lib/json-document.ts";
import type { Operation } from "../providers/provider.ts";
import type { CompletionRequest } from "./completion-request.ts";

/** What routing asks of a request: enough to tell who can serve it, and about what it would cost there. */
export interface RequestFacts {
  readonly operation: Operation;
  readonly document: JsonDocument;
  readonly images: number;
  /** No tokenizer makes fewer tokens of the messages' text. */
  readonly leastInputTokens: number;
  /** About as many tokens as the text is, tools and schemas included. */
  readonly expectedTextTokens: number;
  readonly expectedAudioTokens: number;
  /** The longest answer that the caller allows. */
  readonly maxOutputTokens: number | undefined;
  readonly choices: number;
}

/** English text comes to about four bytes a token, and other languages in their own scripts to about as many. */
const BYTES_PER_TOKEN = 4;
/** A second of sound is some ten tokens, and some twenty thousand base64 characters when it is compressed. */
const SOUND_BYTES_PER_TOKEN = 2_000;
/** The longest entry of the vocabularies in use: a run of 128 spaces. */
const MOST_BYTES_PER_TOKEN = 128;

export function requestFacts({ operation, document, maxOutputTokens, choices }: CompletionRequest): RequestFacts {
  const content = operation === "chat" ? contentOf(document.value["messages"]) : NOTHING;
  const textBytes = document.bytes.length - content.imageBytes - content.soundBytes;
  return {
    operation,
    document,
    images: content.images,
    leastInputTokens: Math.ceil(content.textBytes / MOST_BYTES_PER_TOKEN),
    expectedTextTokens: Math.ceil(textBytes / BYTES_PER_TOKEN),
    expectedAudioTokens: Math.ceil(content.soundBytes / SOUND_BYTES_PER_TOKEN),
    maxOutputTokens,
    choices,
  };
}

interface Content {
  readonly images: number;
  readonly imageBytes: number;
  readonly soundBytes: number;
  /** Of what is certainly read as text. */
  readonly textBytes: number;
}

const NOTHING: Content = { images: 0, imageBytes: 0, soundBytes: 0, textBytes: 0 };

interface Part {
  readonly type?: unknown;
  readonly text?: unknown;
  readonly image_url?: unknown;
  readonly input_audio?: { readonly data?: unknown } | null;
}

function contentOf(messages: unknown): Content {
  let [images, imageBytes, soundBytes, textBytes] = [0, 0, 0, 0];
  for (const message of Array.isArray(messages) ? (messages as ({ readonly content?: unknown } | null)[]) : []) {
    const content = message?.content;
    textBytes += bytesOf(content);
    for (const part of Array.isArray(content) ? (content as (Part | null)[]) : []) {
      switch (part?.type) {
        case "text":
          textBytes += bytesOf(part.text);
          break;
        case "image_url":
          images += 1;
          imageBytes += bytesOf(addressOf(part.image_url));
          break;
        case "input_audio":
          soundBytes += bytesOf(part.input_audio?.data);
          break;
      }
    }
  }
  return { images, imageBytes, soundBytes, textBytes };
}

const bytesOf = (value: unknown): number => (typeof value === "string" ? Buffer.byteLength(value) : 0);
const addressOf = (image: unknown): unknown =>
  typeof image === "object" && image !== null && "url" in image ? image.url : image;
