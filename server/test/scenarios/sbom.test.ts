import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { repositoryRoot } from "../../../scripts/checks/repository.ts";
import { cycloneDxOf } from "../../../scripts/supply/cyclonedx.ts";
import { readLockfile } from "../../../scripts/supply/lockfile.ts";
import { isGrave, readAudit } from "../../../scripts/supply/read-audit.ts";
import { scratchFolder } from "../storage/scratch.ts";

const lock = readLockfile();
const bill = cycloneDxOf(lock);
const workspaces = lock.packages[""]!.workspaces ?? [];

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

const manifests = ["", ...workspaces].map(
  (folder) => JSON.parse(readFileSync(join(repositoryRoot, folder, "package.json"), "utf8")) as Manifest,
);

test("the bill of materials has every production dependency, of every workspace and platform, with version, licence, purl and hash", () => {
  const byName = new Map(bill.components.map((component) => [component.name, component]));
  for (const { dependencies, optionalDependencies } of manifests)
    for (const [name, version] of Object.entries({ ...dependencies, ...optionalDependencies }))
      assert.equal(byName.get(name)?.version, version, name);
  for (const { name, version, purl, licenses, hashes, type } of bill.components) {
    assert.match(version, /^\d+\.\d+\.\d+/, name);
    assert.equal(purl, `pkg:npm/${name.replace("@", "%40")}@${version}`);
    assert.equal(licenses.length, 1, name);
    if (type === "library") assert.match(hashes?.[0]?.content ?? "", /^[0-9a-f]{128}$/, name);
  }
  const only = new Set(manifests.flatMap(({ devDependencies }) => Object.keys(devDependencies ?? {})));
  const shipped = new Set(manifests.flatMap(({ dependencies }) => Object.keys(dependencies ?? {})));
  for (const name of ["oxlint", "knip", "fast-check"]) {
    assert.ok(only.has(name) && !shipped.has(name));
    assert.ok(!byName.has(name), `${name} is for development`);
  }
});

test("it is CycloneDX 1.5 whose references all lead somewhere, and the same at every time", () => {
  assert.equal(bill.bomFormat, "CycloneDX");
  assert.equal(bill.specVersion, "1.5");
  assert.match(bill.serialNumber, /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  const refs = [bill.metadata.component, ...bill.components].map((component) => component["bom-ref"]);
  assert.equal(new Set(refs).size, refs.length, "each reference names one component");
  assert.deepEqual(bill.dependencies.map(({ ref }) => ref).toSorted(), refs.toSorted());
  for (const { dependsOn } of bill.dependencies) for (const ref of dependsOn) assert.ok(refs.includes(ref), ref);
  const reached = new Set<string>();
  const follow = (ref: string): void => {
    if (reached.has(ref)) return;
    reached.add(ref);
    for (const next of bill.dependencies.find((one) => one.ref === ref)!.dependsOn) follow(next);
  };
  for (const { type, "bom-ref": ref } of [bill.metadata.component, ...bill.components])
    if (type === "application") follow(ref);
  assert.equal(reached.size, refs.length, "nothing is there that nobody asked for");
  assert.deepEqual(cycloneDxOf(readLockfile()), bill);
});

test("the command writes it to standard output, or into the file that is named", (t) => {
  const file = join(scratchFolder(t), "sbom.cdx.json");
  const run = (...args: string[]): string =>
    execFileSync(process.execPath, ["scripts/sbom.ts", ...args], { cwd: repositoryRoot, encoding: "utf8" });
  const text = run();
  assert.deepEqual(JSON.parse(text), bill);
  assert.equal(run("--output", file), "");
  assert.equal(readFileSync(file, "utf8"), text);
});

test("advisories are told apart by where they are and how grave; a registry that cannot be asked is no all-clear", () => {
  const production = new Set(["fastify"]);
  const advisory = (severity: string) => ({ source: 1, severity, title: "a title", url: "https://example.com/a" });
  const report = {
    auditReportVersion: 2,
    vulnerabilities: {
      fastify: { via: [advisory("moderate"), "find-my-way"] },
      knip: { via: [advisory("critical")] },
      other: { via: ["knip"] },
    },
  };
  const reading = readAudit(JSON.stringify(report), production);
  assert.ok(reading.kind === "answered");
  assert.deepEqual(
    reading.inProduction.map((one) => [one.package, one.severity, isGrave(one)]),
    [["fastify", "moderate", false]],
  );
  assert.deepEqual(
    reading.inDevelopment.map((one) => [one.package, isGrave(one)]),
    [["knip", true]],
  );
  const refused = { message: "405 Method Not Allowed - POST somewhere", statusCode: 405, error: { summary: "" } };
  assert.deepEqual(readAudit(JSON.stringify(refused), production), {
    kind: "unknown",
    reason: "405 Method Not Allowed",
  });
  for (const output of ["", "<html>", "null", "{}", '{"error":{"code":"ENOAUDIT"}}'])
    assert.equal(readAudit(output, production).kind, "unknown", output);
});
