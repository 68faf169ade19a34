import { z } from "zod";

/** What both vendors accept as a message's content: text, or parts of which the pictures are counted. */
export const contentSchema = z.union([
  z.string(),
  z.array(z.looseObject({ type: z.string(), text: z.string().optional() })),
]);
export type MessageContent = z.infer<typeof contentSchema>;

export function contentText(content: MessageContent | null | undefined): string {
  if (content === null || content === undefined) return "";
  if (typeof content === "string") return content;
  return content
    .map((part) => part.text ?? "")
    .filter(Boolean)
    .join("\n");
}

export function countImages(content: MessageContent | null | undefined): number {
  return Array.isArray(content) ? content.filter((part) => part.type === "image_url").length : 0;
}

/** Tool calls of an assistant's turn as text, so that they count as prompt. */
export function callsText(
  calls: readonly { function?: { name: string; arguments: unknown } | undefined }[] | null | undefined,
): string {
  return (calls ?? [])
    .map(
      (call) =>
        `${call.function?.name ?? ""}${typeof call.function?.arguments === "string" ? call.function.arguments : JSON.stringify(call.function?.arguments ?? "")}`,
    )
    .join("\n");
}
