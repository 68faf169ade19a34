import type { ToolChoice, ToolDefinition } from "./chat-request.ts";

/** The tool a model would call for this prompt: the named one, or the one whose name and description share most words with it. */
export function matchTool(
  tools: readonly ToolDefinition[],
  choice: ToolChoice,
  prompt: string,
): ToolDefinition | undefined {
  switch (choice.kind) {
    case "none":
      return undefined;
    case "named":
      return tools.find((tool) => tool.name === choice.name);
    case "auto":
    case "required":
      return bestMatch(tools, prompt);
    default:
      return choice satisfies never;
  }
}

function bestMatch(tools: readonly ToolDefinition[], prompt: string): ToolDefinition | undefined {
  const wanted = wordsOf(prompt);
  let best: ToolDefinition | undefined;
  let bestScore = -1;
  for (const tool of tools) {
    const score = shared(wanted, wordsOf(tool.name)) * 2 + shared(wanted, wordsOf(tool.description));
    if (score > bestScore) {
      best = tool;
      bestScore = score;
    }
  }
  return best;
}

function wordsOf(text: string): Set<string> {
  const spaced = text.replaceAll(/(\p{Ll})(\p{Lu})/gu, "$1 $2").toLowerCase();
  return new Set(
    (spaced.match(/[\p{L}\p{N}]+/gu) ?? []).filter((word) => word.length > 2).map((word) => word.replace(/s$/u, "")),
  );
}

function shared(left: ReadonlySet<string>, right: ReadonlySet<string>): number {
  let count = 0;
  for (const word of right) if (left.has(word)) count += 1;
  return count;
}
