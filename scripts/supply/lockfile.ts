import { readFileSync } from "node:fs";
import { join } from "node:path";
import { repositoryRoot } from "../checks/repository.ts";

/** package-lock.json (its version 3), as far as it is read here. */
export interface Lockfile {
  readonly version: string;
  /** By their folders; the project's own is "". */
  readonly packages: Readonly<Record<string, LockedPackage>>;
}

export interface LockedPackage {
  readonly name?: string;
  readonly version?: string;
  readonly license?: string;
  readonly integrity?: string;
  /** Of a link to a workspace: its folder. */
  readonly resolved?: string;
  readonly link?: boolean;
  readonly workspaces?: readonly string[];
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

export const readLockfile = (): Lockfile =>
  JSON.parse(readFileSync(join(repositoryRoot, "package-lock.json"), "utf8")) as Lockfile;

/** A package that runs in production, and the folders of those it asks for. */
export interface ProductionPackage {
  readonly folder: string;
  readonly name: string;
  readonly locked: LockedPackage;
  /** It is there for one platform or for a feature, and its absence is no fault. */
  readonly optional: boolean;
  readonly dependsOn: readonly string[];
}

/**
 * Every package that the project and its workspaces need to run, found by following what each asks for, as Node would resolve
 * it. npm's own marks do not tell: `npm sbom --omit dev` leaves out what a development dependency needs as well.
 */
export function productionPackages(lock: Lockfile): readonly ProductionPackage[] {
  const found = new Map<string, ProductionPackage>();
  const visit = (folder: string, optional: boolean): void => {
    const before = found.get(folder);
    if (before !== undefined && (!before.optional || optional)) return;
    const locked = lock.packages[folder]!;
    const asked = [
      ...Object.keys(locked.dependencies ?? {}).map((name) => ({ name, optional })),
      ...Object.keys(locked.peerDependencies ?? {}).map((name) => ({ name, optional: true })),
      ...Object.keys(locked.optionalDependencies ?? {}).map((name) => ({ name, optional: true })),
    ].flatMap((one) => {
      const at = resolveFrom(lock, folder, one.name);
      return at === undefined ? [] : [{ ...one, at }];
    });
    const name = locked.name ?? folder.slice(folder.lastIndexOf("node_modules/") + "node_modules/".length);
    found.set(folder, { folder, name, locked, optional, dependsOn: asked.map(({ at }) => at) });
    for (const one of asked) visit(one.at, one.optional);
  };
  for (const folder of ["", ...(lock.packages[""]?.workspaces ?? [])]) visit(folder, false);
  return [...found.values()].toSorted((a, b) => (a.folder < b.folder ? -1 : 1));
}

/** The folder of the nearest package of the name, seen from one folder upwards; undefined: it is not installed. */
function resolveFrom(lock: Lockfile, folder: string, name: string): string | undefined {
  for (let place = folder; ; place = parentOf(place)) {
    const candidate = `${place === "" ? "" : `${place}/`}node_modules/${name}`;
    const locked = lock.packages[candidate];
    if (locked !== undefined) return locked.link === true ? locked.resolved : candidate;
    if (place === "") return undefined;
  }
}

const parentOf = (folder: string): string => {
  const at = folder.lastIndexOf("/node_modules/");
  return at === -1 ? "" : folder.slice(0, at);
};
