/**
 * What Brikk knows about vendors' models that its price catalogue does not: prices it has wrong or lacks, charges no usage
 * report shows, names that are not for sale here, and limits. The only file of the ledger that names a vendor.
 */

export type ModelKind = "chat" | "embedding";

/** A price for exactly this provider and model name (case aside); an operator's, or one of ours. Prices are decimal USD per million. */
export interface PriceOverride {
  readonly provider: string;
  readonly model: string;
  readonly inputUsdPerMillion: string;
  readonly cachedInputUsdPerMillion?: string | undefined;
  readonly cacheWriteUsdPerMillion?: string | undefined;
  readonly audioInputUsdPerMillion?: string | undefined;
  readonly audioOutputUsdPerMillion?: string | undefined;
  /** Needed for a chat model. */
  readonly outputUsdPerMillion?: string | undefined;
  readonly contextTokens?: number | undefined;
  readonly maxOutputTokens?: number | undefined;
  readonly kind?: ModelKind | undefined;
  readonly acceptsImages?: boolean | undefined;
  readonly reasons?: boolean | undefined;
  readonly qualityTier?: number | undefined;
  /** Where the price was read. */
  readonly source: string;
  /** The day it was read, YYYY-MM-DD; becomes the price version of the ledger row. */
  readonly asOf: string;
}

const SIBLING = "the catalogue's own entry of the model this alias points at: ";
const AUDIO_PREVIEW = "https://aitoolrank.net/model/openai--gpt-4o-audio-preview (audio tokens 40 in, 80 out)";
const MINI_AUDIO_PREVIEW =
  "https://therouter.ai/models/openai--gpt-4o-mini-audio-preview, less that reseller's fifth (10 in, 20 out)";

/** Ours: they win over the catalogue and lose to the operator's. */
export const PRICE_OVERRIDES: readonly PriceOverride[] = [
  // The catalogue still prices these aliases as the models they pointed at in 2024 and 2025, or does not know them.
  ...[
    {
      model: "mistral-large-latest",
      is: "mistral-large-2512",
      input: "0.50",
      cached: "0.05",
      output: "1.50",
      contextTokens: 262_144,
    },
    {
      model: "mistral-small-latest",
      is: "mistral-small-2603",
      input: "0.15",
      cached: "0.015",
      output: "0.60",
      contextTokens: 262_144,
    },
    {
      model: "ministral-3b-latest",
      is: "ministral-3b-2512",
      input: "0.10",
      cached: "0.01",
      output: "0.10",
      contextTokens: 131_072,
    },
    {
      model: "ministral-14b-latest",
      is: "ministral-14b-2512",
      input: "0.20",
      cached: "0.02",
      output: "0.20",
      contextTokens: 262_144,
    },
    {
      model: "devstral-latest",
      is: "devstral-2512",
      input: "0.40",
      cached: "0.04",
      output: "2.00",
      contextTokens: 262_144,
    },
  ].map(({ model, is, input, cached, output, contextTokens }): PriceOverride => ({
    provider: "mistral",
    model,
    inputUsdPerMillion: input,
    cachedInputUsdPerMillion: cached,
    outputUsdPerMillion: output,
    contextTokens,
    source: SIBLING + is,
    asOf: "2026-09-23",
  })),
  // The catalogue matches these by a prefix, which is no name to offer a caller.
  ...[
    { model: "magistral-medium-latest", input: "2", output: "5" },
    { model: "magistral-small-latest", input: "0.50", output: "1.50" },
  ].map(({ model, input, output }): PriceOverride => ({
    provider: "mistral",
    model,
    inputUsdPerMillion: input,
    outputUsdPerMillion: output,
    contextTokens: 131_072,
    source: SIBLING + model.replace("-latest", ""),
    asOf: "2026-09-23",
  })),
  // The catalogue has their text prices only, and audio is sixteen times (mini: some sixty times) as dear.
  ...["gpt-4o-audio-preview", "gpt-4o-audio-preview-2024-12-17", "gpt-4o-audio-preview-2025-06-03"].map(
    (model): PriceOverride => ({
      provider: "openai",
      model,
      inputUsdPerMillion: "2.50",
      outputUsdPerMillion: "10",
      audioInputUsdPerMillion: "40",
      audioOutputUsdPerMillion: "80",
      contextTokens: 128_000,
      source: AUDIO_PREVIEW,
      asOf: "2026-03-23",
    }),
  ),
  ...["gpt-4o-mini-audio-preview", "gpt-4o-mini-audio-preview-2024-12-17"].map((model): PriceOverride => ({
    provider: "openai",
    model,
    inputUsdPerMillion: "0.15",
    outputUsdPerMillion: "0.60",
    audioInputUsdPerMillion: "10",
    audioOutputUsdPerMillion: "20",
    contextTokens: 128_000,
    source: MINI_AUDIO_PREVIEW,
    asOf: "2026-03-23",
  })),
];

export interface NameRule {
  readonly provider: string;
  readonly names: RegExp;
}

/**
 * Names whose catalogue price leaves out a charge that no usage report shows, so that a request would cost more than the
 * ledger says. They have no price, hence are refused, until an override (ours above, or the operator's) gives one.
 */
export const UNPRICED: readonly NameRule[] = [
  // Audio tokens cost many times the text price the catalogue has.
  { provider: "openai", names: /^gpt-4o(-mini)?-audio/ },
  { provider: "azure", names: /^gpt-4o(-mini)?-audio/ },
  // A fee per search, on every request.
  { provider: "openai", names: /-search-preview|-search-api|deep-research/ },
  // Audio is billed by the minute.
  { provider: "mistral", names: /^voxtral/ },
];

/** Names the catalogue knows but that GET /v1/models should not offer: other APIs, retired models, other resellers' spellings. */
export const UNLISTED: readonly NameRule[] = [
  // Not served by chat completions or embeddings: pictures, speech, the Responses API only, the old completions API.
  { provider: "openai", names: /image|realtime|transcribe|tts|whisper|moderation|computer-use|instruct|gpt-oss/ },
  { provider: "openai", names: /codex|^o1-pro|^o3-pro|^gpt-5(\.\d)?-pro$|^(ada|babbage|curie|davinci|text-davinci)/ },
  // Shut down, or names no vendor's API takes.
  {
    provider: "openai",
    names: /^gpt-3\.5-(0301|turbo-0613|turbo-16k)|^gpt-4-(32k|vision)|^gpt-4\.5|^o1-(mini|preview)|:|\.ft-|^ft:/,
  },
  { provider: "openai", names: /^gpt-5\.3$/ },
  { provider: "mistral", names: /ocr|:free|instruct|mixtral|^mistral-(large|medium|medium-2312|tiny|7b)$/ },
  { provider: "mistral", names: /^ministral-[38]b$|^magistral-(medium|small-?)$/ },
];

/** What a family of names has in common; the first rule that fits a name speaks for it. */
export interface ModelFamily extends NameRule {
  readonly kind?: ModelKind;
  /** Counts where neither an override nor the catalogue knows it. */
  readonly contextTokens?: number;
  /** "context": an answer may fill the context window. */
  readonly maxOutputTokens?: number | "context";
  readonly acceptsImages?: boolean;
  /** The most tokens that the vendor documents for one picture, whatever its size, rounded up. */
  readonly maxImageTokens?: number;
  /** The model reads text in the tokens of this encoding. */
  readonly encoding?: "o200k_base";
  readonly reasons?: boolean;
  readonly qualityTier?: number;
}

// Pictures, by OpenAI's guide "Images and vision": tiles of 512 pixels in at most 2048 x 768 (so 8 tiles: gpt-4o 85 + 8 x 170,
// gpt-4o-mini 2833 + 8 x 5667, o1 and o3 75 + 8 x 150), or at most 1536 patches times a factor (4.1-mini 1.62, 4.1-nano 2.46,
// o4-mini 1.72), newer models at most 10,000 patches. Mistral's guide "Vision": one token for 16 x 16 pixels in at most 1024 x 1024
// and one for each row, or fewer.
// OpenAI: platform.openai.com/docs/models and the model table in gpt-tokenizer 4.0.0; Mistral: docs.mistral.ai/getting-started/models.
export const MODEL_FAMILIES: readonly ModelFamily[] = [
  { provider: "openai", names: /embedding/, kind: "embedding", acceptsImages: false },
  {
    provider: "openai",
    names: /^gpt-5(\.\d)?-chat/,
    maxImageTokens: 25_000,
    encoding: "o200k_base",
    maxOutputTokens: 16_384,
    acceptsImages: true,
    qualityTier: 3,
  },
  {
    provider: "openai",
    names: /^gpt-5-pro/,
    maxImageTokens: 25_000,
    encoding: "o200k_base",
    maxOutputTokens: 272_000,
    acceptsImages: true,
    reasons: true,
    qualityTier: 3,
  },
  {
    provider: "openai",
    names: /^gpt-[56].*(nano|luna)/,
    maxImageTokens: 25_000,
    encoding: "o200k_base",
    maxOutputTokens: 128_000,
    acceptsImages: true,
    reasons: true,
    qualityTier: 1,
  },
  {
    provider: "openai",
    names: /^gpt-[56].*(mini|terra)/,
    maxImageTokens: 25_000,
    encoding: "o200k_base",
    maxOutputTokens: 128_000,
    acceptsImages: true,
    reasons: true,
    qualityTier: 2,
  },
  {
    provider: "openai",
    names: /^gpt-[56]/,
    maxImageTokens: 25_000,
    encoding: "o200k_base",
    maxOutputTokens: 128_000,
    acceptsImages: true,
    reasons: true,
    qualityTier: 3,
  },
  {
    provider: "openai",
    names: /^gpt-4\.1-(mini|nano)/,
    maxImageTokens: 3_900,
    encoding: "o200k_base",
    maxOutputTokens: 32_768,
    acceptsImages: true,
    qualityTier: 1,
  },
  {
    provider: "openai",
    names: /^gpt-4\.1/,
    maxImageTokens: 1_600,
    encoding: "o200k_base",
    maxOutputTokens: 32_768,
    acceptsImages: true,
    qualityTier: 2,
  },
  {
    provider: "openai",
    names: /^gpt-(4o(-mini)?-)?audio/,
    maxOutputTokens: 16_384,
    acceptsImages: false,
    qualityTier: 2,
  },
  {
    provider: "openai",
    names: /^gpt-4o-mini/,
    maxImageTokens: 48_300,
    encoding: "o200k_base",
    maxOutputTokens: 16_384,
    acceptsImages: true,
    qualityTier: 1,
  },
  {
    provider: "openai",
    names: /^gpt-4o-2024-05-13/,
    maxImageTokens: 1_500,
    encoding: "o200k_base",
    maxOutputTokens: 4_096,
    acceptsImages: true,
    qualityTier: 2,
  },
  {
    provider: "openai",
    names: /^(chat)?gpt-4o/,
    maxImageTokens: 1_500,
    encoding: "o200k_base",
    maxOutputTokens: 16_384,
    acceptsImages: true,
    qualityTier: 2,
  },
  {
    provider: "openai",
    names: /^gpt-4-turbo|^gpt-4-.*preview/,
    maxImageTokens: 1_500,
    maxOutputTokens: 4_096,
    qualityTier: 2,
  },
  { provider: "openai", names: /^gpt-4(-|$)/, maxOutputTokens: 8_192, acceptsImages: false, qualityTier: 2 },
  { provider: "openai", names: /^gpt-3\.5/, maxOutputTokens: 4_096, acceptsImages: false, qualityTier: 1 },
  {
    provider: "openai",
    names: /^gpt-chat/,
    maxImageTokens: 25_000,
    encoding: "o200k_base",
    maxOutputTokens: 128_000,
    acceptsImages: true,
    qualityTier: 3,
  },
  {
    provider: "openai",
    names: /^o[13]-mini/,
    encoding: "o200k_base",
    maxOutputTokens: 100_000,
    acceptsImages: false,
    reasons: true,
    qualityTier: 2,
  },
  {
    provider: "openai",
    names: /^o\d-mini/,
    maxImageTokens: 2_700,
    encoding: "o200k_base",
    maxOutputTokens: 100_000,
    acceptsImages: true,
    reasons: true,
    qualityTier: 2,
  },
  {
    provider: "openai",
    names: /^o\d/,
    maxImageTokens: 1_400,
    encoding: "o200k_base",
    maxOutputTokens: 100_000,
    acceptsImages: true,
    reasons: true,
    qualityTier: 3,
  },
  { provider: "mistral", names: /embed/, kind: "embedding", acceptsImages: false },
  {
    provider: "mistral",
    names: /^magistral-medium/,
    maxImageTokens: 4_200,
    contextTokens: 131_072,
    maxOutputTokens: "context",
    acceptsImages: true,
    reasons: true,
    qualityTier: 3,
  },
  {
    provider: "mistral",
    names: /^magistral/,
    maxImageTokens: 4_200,
    contextTokens: 131_072,
    maxOutputTokens: "context",
    acceptsImages: true,
    reasons: true,
    qualityTier: 2,
  },
  {
    provider: "mistral",
    names: /^mistral-large-(latest|2512)/,
    maxImageTokens: 4_200,
    maxOutputTokens: "context",
    acceptsImages: true,
    qualityTier: 3,
  },
  {
    provider: "mistral",
    names: /^pixtral-large/,
    maxImageTokens: 4_200,
    contextTokens: 131_072,
    maxOutputTokens: "context",
    acceptsImages: true,
    qualityTier: 2,
  },
  {
    provider: "mistral",
    names: /^mistral-medium-latest/,
    maxImageTokens: 4_200,
    contextTokens: 262_144,
    maxOutputTokens: "context",
    acceptsImages: true,
    qualityTier: 3,
  },
  {
    provider: "mistral",
    names: /^mistral-medium/,
    maxImageTokens: 4_200,
    contextTokens: 131_072,
    maxOutputTokens: "context",
    acceptsImages: true,
    qualityTier: 3,
  },
  {
    provider: "mistral",
    names: /^mistral-large/,
    maxImageTokens: 4_200,
    contextTokens: 131_072,
    maxOutputTokens: "context",
    acceptsImages: false,
    qualityTier: 2,
  },
  {
    provider: "mistral",
    names: /^ministral.*(latest|2512)/,
    maxImageTokens: 4_200,
    contextTokens: 262_144,
    maxOutputTokens: "context",
    acceptsImages: true,
    qualityTier: 1,
  },
  {
    provider: "mistral",
    names: /^(mistral-small|pixtral)/,
    maxImageTokens: 4_200,
    contextTokens: 131_072,
    maxOutputTokens: "context",
    acceptsImages: true,
    qualityTier: 1,
  },
  {
    provider: "mistral",
    names: /^(code|dev)stral/,
    maxImageTokens: 4_200,
    contextTokens: 131_072,
    maxOutputTokens: "context",
    acceptsImages: false,
    qualityTier: 2,
  },
  {
    provider: "mistral",
    names: /^/,
    maxImageTokens: 4_200,
    contextTokens: 131_072,
    maxOutputTokens: "context",
    acceptsImages: false,
    qualityTier: 1,
  },
  { provider: "voyageai", names: /^voyage/, kind: "embedding" },
  // console.groq.com/docs/models, read 2026-11-25; the vendor documents no tokens of a picture.
  {
    provider: "groq",
    names: /^openai\/gpt-oss/,
    contextTokens: 131_072,
    maxOutputTokens: 65_536,
    acceptsImages: false,
    reasons: true,
    qualityTier: 2,
  },
  {
    provider: "groq",
    names: /^llama-3\.3-70b-versatile/,
    contextTokens: 131_072,
    maxOutputTokens: 32_768,
    acceptsImages: false,
    qualityTier: 2,
  },
  {
    provider: "groq",
    names: /^llama-3\.1-8b-instant/,
    contextTokens: 131_072,
    maxOutputTokens: 131_072,
    acceptsImages: false,
    qualityTier: 1,
  },
  // api-docs.deepseek.com/quick_start/pricing, read 2026-11-25: both think unless they are told not to.
  {
    provider: "deepseek",
    names: /^deepseek-(v4-)?flash/,
    contextTokens: 1_000_000,
    maxOutputTokens: 393_216,
    reasons: true,
    qualityTier: 2,
  },
  {
    provider: "deepseek",
    names: /^deepseek-v4-pro/,
    contextTokens: 1_000_000,
    maxOutputTokens: 393_216,
    acceptsImages: false,
    reasons: true,
    qualityTier: 3,
  },
];
