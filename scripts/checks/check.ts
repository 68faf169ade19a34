/** One static check: what it looks at, and the faults it found, each fit for a person; none means all is well. */
export interface Check {
  readonly name: string;
  findFaults(): Promise<readonly string[]>;
}
