export const VENDORS = ["openai", "mistral"] as const;
export type Vendor = (typeof VENDORS)[number];
export type Operation = "chat" | "embeddings";
