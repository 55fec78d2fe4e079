// What every benchmark shares: pairs measured in turn in one run, a table with the spread, and the figures as JSON.

import { writeFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, platform, release, totalmem } from 'node:os';

export interface Goal {
  /** `>=` for a ratio or a rate, `<=` for a latency. */
  readonly is: '>=' | '<=';
  readonly value: number;
}

/** One figure: the median of its samples, and how far they spread. */
export interface Figure {
  readonly value: number;
  readonly min: number;
  readonly max: number;
  /** Undefined for what is shown to explain the others. */
  readonly goal?: Goal;
}

export interface Benchmark {
  readonly name: string;
  run(
    say: (line: string) => void,
  ): Promise<{ figures: Record<string, Figure>; environment: Record<string, string> }>;
}

export function figure(samples: readonly number[], goal?: Goal): Figure {
  const value = median(samples);
  return { value, min: Math.min(...samples), max: Math.max(...samples), ...(goal ? { goal } : {}) };
}

export function median(samples: readonly number[]): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1
    ? (sorted[Math.floor(middle)] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}

/** Runs the sides in turn, A B A B ..., so that a machine whose speed drifts slows both. Milliseconds per side. */
export async function inTurn<Side extends string>(
  rounds: number,
  sides: Record<Side, (round: number) => Promise<number>>,
): Promise<Record<Side, number[]>> {
  const names = Object.keys(sides) as Side[];
  const samples = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Side, number[]>;
  for (let round = 0; round < rounds; round++) {
    // Every other round backwards: neither side always comes after the other.
    for (const name of round % 2 === 0 ? names : names.toReversed())
      samples[name].push(await sides[name](round));
  }
  return samples;
}

/** Milliseconds that `work` took. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = process.hrtime.bigint();
  await work();
  return Number(process.hrtime.bigint() - begun) / 1e6;
}

/** Runs `work` on each item with that many at once; the first failure ends it. */
export async function atOnce<T>(
  limit: number,
  items: readonly T[],
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  const queue = items.values();
  const lane = async (): Promise<void> => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: limit }, lane));
}

export function machine(): Record<string, string> {
  return {
    node: process.version,
    platform: `${platform()} ${release()} ${arch()}`,
    processors: `${availableParallelism()} x ${cpus()[0]?.model.trim() ?? 'unknown'}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    date: new Date().toISOString(),
  };
}

export function table(figures: Record<string, Figure>): string {
  const rows = Object.entries(figures).map(([name, { value, min, max, goal }]) => [
    name,
    round(value),
    `${round(min)} - ${round(max)}`,
    goal === undefined ? '' : `${goal.is} ${goal.value}`,
    goal === undefined ? '' : meets(value, goal) ? 'met' : 'MISSED',
  ]);
  const all = [['figure', 'median', 'spread', 'goal', ''], ...rows];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** `{name, figures: {key: {value, min, max, goal}}, environment}`; the goal as a number. */
export function writeJson(
  file: string,
  name: string,
  figures: Record<string, Figure>,
  environment: Record<string, string>,
): void {
  const plain = Object.fromEntries(
    Object.entries(figures).map(([key, { goal, ...rest }]) => [key, { ...rest, goal: goal?.value ?? null }]),
  );
  writeFileSync(file, `${JSON.stringify({ name, figures: plain, environment }, null, 2)}\n`);
}

const meets = (value: number, { is, value: limit }: Goal): boolean =>
  is === '>=' ? value >= limit : value <= limit;
const round = (value: number): string => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2));
