/** What every gateway is asked in a run, and what the upstream answers; both ends of the benchmark read it here. */
export interface Workload {
  readonly name: string;
  readonly body: Record<string, unknown>;
  /** Undefined for an answer in one piece. */
  readonly chunks: number | undefined;
}

const MODEL = "gpt-4o-mini";
const MESSAGES = [
  {
    role: "system",
    content:
      "You are a careful assistant of a travel agency. Answer in one short paragraph, name your sources, and never promise a price.",
  },
  {
    role: "user",
    content:
      "We land in Valparaíso on a Friday evening in March with two children and leave on Sunday afternoon. What should we see, in which order, and where do we eat?",
  },
];

/** Makes the upstream wait for its next beat before each chunk, as a provider does that is still thinking. */
export const PACED_USER = "paced";
export const BEAT_MS = 4;

export const plain: Workload = {
  name: "plain",
  chunks: undefined,
  body: { model: MODEL, messages: MESSAGES, temperature: 0.2, max_tokens: 400 },
};

export const streamed = (chunks: number, { paced }: { paced: boolean }): Workload => ({
  name: `${chunks} chunks${paced ? `, one each ${BEAT_MS} ms` : ""}`,
  chunks,
  body: {
    model: MODEL,
    messages: MESSAGES,
    temperature: 0.2,
    max_tokens: chunks,
    stream: true,
    stream_options: { include_usage: true },
    ...(paced && { user: PACED_USER }),
  },
});

const WORDS = ["The ", "funicular ", "climbs ", "to ", "Cerro ", "Alegre; ", "eat ", "there ", "at ", "dusk. "];
const wordAt = (index: number): string => WORDS[index % WORDS.length]!;

/** The text of an answer with so many words. */
export const answerText = (words: number): string =>
  Array.from({ length: words }, (_, index) => wordAt(index)).join("");

export const PLAIN_WORDS = 30;

const usage = (completion: number): Record<string, unknown> => ({
  prompt_tokens: 74,
  completion_tokens: completion,
  total_tokens: 74 + completion,
  prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
  completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 0 },
});

export const plainAnswer = (): string =>
  JSON.stringify({
    id: "chatcmpl-BenchBenchBenchBenchBenchBe",
    object: "chat.completion",
    created: 1_790_000_000,
    model: "gpt-4o-mini-2024-07-18",
    choices: [
      {
        index: 0,
        message: { role: "assistant", content: answerText(PLAIN_WORDS), refusal: null },
        logprobs: null,
        finish_reason: "stop",
      },
    ],
    usage: usage(PLAIN_WORDS),
    system_fingerprint: "fp_bench",
  });

/** The pieces of a stream as a vendor cuts them: each word its own, then the finish, the usage and `[DONE]` together. */
export function streamPieces(chunks: number): string[] {
  const chunk = (rest: Record<string, unknown>): string =>
    `data: ${JSON.stringify({ id: "chatcmpl-BenchBenchBenchBenchBenchBe", object: "chat.completion.chunk", created: 1_790_000_000, model: "gpt-4o-mini-2024-07-18", service_tier: "default", system_fingerprint: "fp_bench", ...rest })}\n\n`;
  const delta = (content: Record<string, unknown>, finish: string | null): string =>
    chunk({ choices: [{ index: 0, delta: content, logprobs: null, finish_reason: finish }], usage: null });
  return [
    ...Array.from({ length: chunks }, (_, index) =>
      delta({ ...(index === 0 && { role: "assistant" }), content: wordAt(index) }, null),
    ),
    `${delta({}, "stop")}${chunk({ choices: [], usage: usage(chunks) })}data: [DONE]\n\n`,
  ];
}
