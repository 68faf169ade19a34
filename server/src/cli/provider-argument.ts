import { printable } from "./arguments.ts";
import { UsageError } from "./usage-error.ts";

/** The one provider that a command is about. A key in a name's place is refused and never shown. */
export function providerArgument(command: string, positionals: readonly string[]): string {
  const [provider, ...others] = positionals;
  if (provider === undefined) throw new UsageError(`Which provider? Give its name, as in: ${command} NAME.`);
  if (others.length > 0)
    throw new UsageError("A provider's name and nothing else: a key is read from standard input, never from here.");
  if (!/^[a-z][a-z0-9-]{0,39}$/.test(provider))
    throw new UsageError(
      `That is not a provider's name, such as ${command} NAME takes: small letters, digits and hyphens, 40 at most.`,
    );
  return printable(provider);
}
