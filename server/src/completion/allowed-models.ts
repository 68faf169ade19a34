import type { ApiKey } from "../access/api-key.ts";
import { BrikkError } from "../errors.ts";
import type { CatalogueModel, ModelCatalogue } from "../ledger/model-catalogue.ts";

/**
 * What a key may use. A model is allowed when one of the list's names means exactly it, case aside: `provider/model` where the first
 * part is a provider of this server, else the model of whichever provider. Nothing is inferred: a dated version, a `-latest` name
 * and a fine-tuned model are models of their own, so what is not written down is not allowed by a name that resembles it. What is
 * compared is the name that goes to the provider, so no other name of a model (a policy's, the router's) leads past the list.
 */
export type ModelRights = Pick<ApiKey, "allowedModels" | "allowedProviders">;

export interface Forbidden {
  readonly rule: "models" | "providers";
  readonly allowed: readonly string[];
}

/** The rule that keeps the key from the model; undefined when none does. */
export function forbiddenBy(
  { allowedModels, allowedProviders }: ModelRights,
  { provider, id }: Pick<CatalogueModel, "provider" | "id">,
  knownProviders: readonly string[],
): Forbidden | undefined {
  if (allowedModels !== undefined && !namesAt(provider, allowedModels, knownProviders).some((name) => isSame(name, id)))
    return { rule: "models", allowed: allowedModels };
  if (allowedProviders !== undefined && !allowedProviders.some((name) => isSame(name, provider)))
    return { rule: "providers", allowed: allowedProviders };
  return undefined;
}

/** The models that the list names at one provider, by the names that the provider knows. */
export function namesAt(
  provider: string,
  allowedModels: readonly string[],
  knownProviders: readonly string[],
): readonly string[] {
  return allowedModels.flatMap((name) => {
    const slash = name.indexOf("/");
    const owner = slash > 0 ? name.slice(0, slash) : undefined;
    if (owner === undefined || !knownProviders.some((known) => isSame(known, owner))) return [name];
    return isSame(owner, provider) ? [name.slice(slash + 1)] : [];
  });
}

/** The models to offer of a provider, and those beyond them that the key's list names. */
export function offeredModels(
  catalogue: ModelCatalogue,
  provider: string,
  rights: ModelRights,
  knownProviders: readonly string[],
): readonly CatalogueModel[] {
  const listed = catalogue.list(provider);
  const named = namesAt(provider, rights.allowedModels ?? [], knownProviders)
    .filter((name) => !listed.some(({ id }) => isSame(id, name)))
    .flatMap((name) => catalogue.find(provider, name) ?? []);
  return [...listed, ...named].filter((model) => !forbiddenBy(rights, model, knownProviders));
}

const isSame = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase();

/** `what` begins the sentence and says what may not be used. */
export const modelNotAllowed = (what: string, { rule, allowed }: Forbidden, param: string): BrikkError =>
  new BrikkError(
    "model_not_allowed",
    `${what} may not be used with this key: its ${rule} ${allowed.length === 0 ? "are none" : `are ${shortList(allowed)}`}. GET /v1/models lists what it may use; whoever runs this gateway can change that.`,
    { param, details: { rule, allowed } },
  );

const SHOWN = 10;

const shortList = (names: readonly string[]): string =>
  names.length <= SHOWN ? names.join(", ") : `${names.slice(0, SHOWN).join(", ")} and ${names.length - SHOWN} more`;
