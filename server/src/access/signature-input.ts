import { type BareItem, type Dictionary, type InnerList, isInnerList } from "structured-headers";
import { fieldValue, isSupportedComponent, type WireRequest } from "./signature-base.ts";
import { signatureRefusal } from "./signature-refusal.ts";
import { parseStrictDictionary } from "./strict-dictionary.ts";

/** One signature of a request, as Signature-Input and Signature have it; nothing of it is proven yet. */
export interface SignatureInput {
  readonly covered: readonly string[];
  readonly createdS: number;
  readonly expiresS: number | undefined;
  readonly nonce: string;
  /** The covered components with the parameters, as they go into what is signed. */
  readonly signed: InnerList;
  readonly signature: Buffer;
}

const ALGORITHM = "hmac-sha256";
const SHORTEST_NONCE = 16;
const LONGEST_NONCE = 64;
/** More than a request could need; each costs a walk through its headers. */
const MOST_COMPONENTS = 32;
/** Later ones no date can hold. */
const YEAR_10000_S = 253_402_300_800;
const PARAMETERS: ReadonlySet<string> = new Set(["created", "expires", "nonce", "alg", "keyid", "tag"]);

/**
 * The one signature of the request that is by this key. Others, as a proxy on the way may add, are left alone: they say nothing
 * about the caller. Throws signature_invalid with the reason.
 */
export function readSignature(request: WireRequest, keyId: string): SignatureInput {
  const inputs = dictionaryIn(request, "Signature-Input");
  const signatures = dictionaryIn(request, "Signature");
  const ours = [...inputs].filter(([, [, parameters]]) => parameters.get("keyid") === keyId);
  const [first, second] = ours;
  if (first === undefined)
    throw signatureRefusal(
      "wrong_key",
      `No signature of this request is by ${keyId}, the key whose secret it carries. Set keyid to that, and sign with that key's signing secret.`,
    );
  if (second !== undefined) throw malformed(`Two signatures are by ${keyId}; send one.`);
  const [label, signed] = first;
  const signature = signatures.get(label)?.[0];
  if (!isInnerList(signed) || !(signature instanceof ArrayBuffer))
    throw malformed(
      `Signature-Input has no list of components by the name ${label}, or Signature no bytes by that name.`,
    );
  return {
    ...readParameters(signed[1]),
    covered: readComponents(signed[0]),
    signed,
    signature: Buffer.from(signature),
  };
}

function dictionaryIn(request: WireRequest, name: "Signature-Input" | "Signature"): Dictionary {
  const text = fieldValue(request, name.toLowerCase());
  if (text === undefined) throw malformed(`Signature-Input and Signature belong together, and ${name} is missing.`);
  const dictionary = parseStrictDictionary(text);
  if (dictionary !== undefined) return dictionary;
  throw malformed(`${name} is not a dictionary in the strict form of RFC 9651, with each name once.`);
}

function readComponents(items: InnerList[0]): string[] {
  if (items.length > MOST_COMPONENTS) throw malformed(`More than ${MOST_COMPONENTS} components are signed.`);
  const covered = items.map(([name, parameters]) => {
    if (typeof name !== "string") throw malformed("A component's name is a string in double quotes.");
    if (parameters.size > 0 || !isSupportedComponent(name))
      throw signatureRefusal(
        "component_unsupported",
        `The component "${name}"${parameters.size > 0 ? " with a parameter" : ""} cannot be checked here. Besides header fields, in lower case and without parameters, there are @method, @path, @query and @authority.`,
        { component: name },
      );
    return name;
  });
  if (new Set(covered).size < covered.length) throw malformed("A component is signed twice.");
  return covered;
}

function readParameters(
  parameters: ReadonlyMap<string, BareItem>,
): Pick<SignatureInput, "createdS" | "expiresS" | "nonce"> {
  for (const name of parameters.keys()) {
    // It may be a condition, which nobody would hold.
    if (!PARAMETERS.has(name))
      throw signatureRefusal("parameter_unsupported", `The parameter ${name} is not known here; leave it out.`, {
        parameter: name,
      });
  }
  for (const name of ["created", "nonce", "alg"]) {
    if (!parameters.has(name))
      throw signatureRefusal(
        "parameter_missing",
        `The signature lacks the parameter ${name}; created, nonce, keyid and alg="${ALGORITHM}" are all due.`,
        { parameter: name },
      );
  }
  if (parameters.get("alg") !== ALGORITHM)
    throw signatureRefusal("algorithm_unsupported", `Signatures are made by ${ALGORITHM}, and alg is to say so.`);
  const nonce = parameters.get("nonce");
  if (typeof nonce !== "string" || nonce.length < SHORTEST_NONCE || nonce.length > LONGEST_NONCE)
    throw malformed(
      `nonce is a string of ${SHORTEST_NONCE} to ${LONGEST_NONCE} characters; make a new one at random for each request.`,
    );
  const createdS = secondsIn(parameters, "created");
  const expiresS = parameters.has("expires") ? secondsIn(parameters, "expires") : undefined;
  if (expiresS !== undefined && expiresS < createdS) throw malformed("expires is before created.");
  return { createdS, expiresS, nonce };
}

function secondsIn(parameters: ReadonlyMap<string, BareItem>, name: string): number {
  const value = parameters.get(name);
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value < YEAR_10000_S) return value;
  throw malformed(`${name} is a whole number of seconds since 1970.`);
}

const malformed = (problem: string): Error => signatureRefusal("malformed", `The signature cannot be read: ${problem}`);
