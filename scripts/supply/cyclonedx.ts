import { createHash } from "node:crypto";
import { type Lockfile, type ProductionPackage, productionPackages } from "./lockfile.ts";

/** A bill of materials in CycloneDX 1.5 (cyclonedx.org/docs/1.5/json), as far as it is used here. */
export interface CycloneDx {
  readonly bomFormat: "CycloneDX";
  readonly specVersion: "1.5";
  readonly serialNumber: string;
  readonly version: 1;
  readonly metadata: { readonly component: Component };
  readonly components: readonly Component[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
}

interface Component {
  readonly "bom-ref": string;
  readonly type: "application" | "library";
  readonly name: string;
  readonly version: string;
  readonly scope?: "required" | "optional";
  readonly purl: string;
  readonly licenses: readonly License[];
  readonly hashes?: readonly { readonly alg: "SHA-512"; readonly content: string }[];
}

type License =
  | { readonly license: { readonly id: string } | { readonly name: string } }
  | { readonly expression: string };

/** What the project runs on, from its lockfile alone: the same lockfile gives the same bytes, on any machine. */
export function cycloneDxOf(lock: Lockfile): CycloneDx {
  const packages = productionPackages(lock);
  const project = packages.find(({ folder }) => folder === "")!;
  const others = packages.filter((one) => one !== project);
  const refs = new Map(packages.map((one) => [one.folder, refOf(one)]));
  return {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    serialNumber: `urn:uuid:${uuidOf(lock)}`,
    version: 1,
    metadata: { component: componentOf(project) },
    components: others.map(componentOf),
    dependencies: packages.map((one) => ({
      ref: refOf(one),
      dependsOn: [...new Set(one.dependsOn.map((folder) => refs.get(folder)!))].toSorted(),
    })),
  };
}

/** One package may be installed in several places, in one version even. */
const refOf = ({ folder, name, locked }: ProductionPackage): string =>
  `${name}@${locked.version}${folder.split("node_modules/").length > 2 ? `|${folder}` : ""}`;

function componentOf(one: ProductionPackage): Component {
  const { folder, name, locked, optional } = one;
  const own = !folder.includes("node_modules/");
  return {
    "bom-ref": refOf(one),
    type: own ? "application" : "library",
    name,
    version: locked.version ?? "",
    ...(folder !== "" && { scope: optional ? "optional" : "required" }),
    // The at sign of a scope is written as %40 (github.com/package-url/purl-spec).
    purl: `pkg:npm/${name.replace(/^@/, "%40")}@${locked.version}`,
    licenses: locked.license === undefined ? [] : [licenseOf(locked.license)],
    ...(locked.integrity !== undefined && { hashes: hashesOf(locked.integrity) }),
  };
}

function licenseOf(text: string): License {
  if (/ (OR|AND|WITH) /.test(text)) return { expression: text };
  return { license: /^[A-Za-z0-9.+-]+$/.test(text) && text !== "UNLICENSED" ? { id: text } : { name: text } };
}

const hashesOf = (integrity: string): NonNullable<Component["hashes"]> =>
  integrity
    .split(" ")
    .filter((one) => one.startsWith("sha512-"))
    .map((one) => ({ alg: "SHA-512", content: Buffer.from(one.slice("sha512-".length), "base64").toString("hex") }));

/** Of version 8 (RFC 9562, section 5.8), out of what the lockfile says. */
function uuidOf(lock: Lockfile): string {
  const hex = createHash("sha256").update(JSON.stringify(lock)).digest("hex");
  const variant = ((Number.parseInt(hex[16]!, 16) & 0x3) | 0x8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
