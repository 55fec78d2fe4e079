/**
 * `npm run mutants [-- --only TEXT | --list | --jobs N]`: breaks one guard at a time and shows that a test notices;
 * `--only` may be given again and again. The servers are started once, nothing on disk is changed. Ends with 1 when a
 * mutant survived or could not be tried, or a test fails without any.
 */
import { rm } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { serverFolder } from '../support/folder.js';
import globalSetup from '../support/global-setup.js';
import globalTeardown from '../support/global-teardown.js';
import { type Choice, type JestRun, runJest } from './jest-run.js';
import { misfit, type Mutant } from './mutant.js';
import { MUTANTS } from './mutants.js';

type Verdict =
  | { readonly kind: 'caught'; readonly by: string; readonly saying: string }
  | { readonly kind: 'survived'; readonly because: string }
  /** Nothing was shown: it was not loaded, or no test ran. */
  | { readonly kind: 'not tried'; readonly because: string };

const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function main(signal: AbortSignal): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true },
      list: { type: 'boolean' },
      jobs: { type: 'string', default: '2' },
    },
  });
  const { only } = values;
  const chosen = MUTANTS.filter(({ name }) => only === undefined || only.some((part) => name.includes(part)));
  if (chosen.length === 0) {
    say(`No mutant's name has "${only?.join('" or "')}" in it. All of them: npm run mutants -- --list`);
    return 2;
  }
  if (values.list === true) {
    for (const { name, file } of chosen) say(`${name} (${file})`);
    return 0;
  }
  // Told first and not tried: it was broken by whoever changed the source, and costs no time.
  const misfits = chosen.flatMap((mutant) => misfit(mutant) ?? []);
  for (const reason of misfits) say(`NOT TRIED ${reason}`);
  const fitting = chosen.filter((mutant) => misfit(mutant) === undefined);
  const folder = await serverFolder('mutants');
  const begun = performance.now();
  try {
    await globalSetup();
    const jobs = Math.max(1, Number.parseInt(values.jobs, 10) || 1);
    const broken = await failingUnchanged(fitting, folder, jobs, signal);
    const verdicts = await each(fitting, jobs, async (mutant) => {
      const from = performance.now();
      const verdict = verdictOn(await runJest(mutant, mutant, folder, signal), broken);
      say(lineOf(mutant, verdict, seconds(from)));
      return verdict;
    });
    const caught = verdicts.filter(({ kind }) => kind === 'caught').length;
    say(`\n${caught} of ${chosen.length} caught, in ${seconds(begun)}`);
    return caught === chosen.length && broken.size === 0 ? 0 : 1;
  } finally {
    await globalTeardown();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Names of tests that fail without any mutant: that they fail with one says nothing. */
async function failingUnchanged(
  mutants: readonly Mutant[],
  folder: string,
  jobs: number,
  signal: AbortSignal,
): Promise<Set<string>> {
  const files = (some: readonly Mutant[]): string[] => [...new Set(some.flatMap(({ tests }) => tests))];
  const whole = mutants.filter(({ named }) => named === undefined);
  const parts = mutants.filter(({ named }) => named !== undefined);
  const choices: Choice[] = [
    { tests: files(whole) },
    { tests: files(parts), named: [...new Set(parts.map(({ named }) => named))].join('|') },
  ];
  const from = performance.now();
  const runs = await each(
    choices.filter(({ tests }) => tests.length > 0),
    jobs,
    (choice) => runJest(choice, undefined, folder, signal),
  );
  const ended = runs.find(({ timedOut, failed }) => timedOut || failed.some(({ path }) => path === ''));
  if (ended !== undefined)
    throw new Error(`without any mutant the tests do not end: ${ended.failed[0]?.message}`);
  const passed = runs.flatMap(({ notes }) => notes.filter(({ kind }) => kind === 'passed'));
  say(`unchanged: ${passed.length} tests pass (${seconds(from)})\n`);
  for (const { path, message } of runs.flatMap((run) => run.failed))
    say(`fails without any mutant: ${path}\n${message}\n`);
  return new Set(
    runs.flatMap(({ notes }) => notes.flatMap((note) => (note.kind === 'failed' ? note.test : []))),
  );
}

function verdictOn({ notes, failed, timedOut }: JestRun, broken: ReadonlySet<string>): Verdict {
  // A module that does not compile, or throws while it is loaded, is no proof: of that anything would die.
  const unloaded = failed.find(({ ran }) => !ran);
  if (unloaded !== undefined && !timedOut) return { kind: 'not tried', because: unloaded.message };
  if (!notes.some(({ kind }) => kind === 'loaded'))
    return { kind: 'not tried', because: 'no test has loaded the changed file' };
  for (const note of notes)
    if (note.kind === 'failed' && note.isAssertion && !broken.has(note.test))
      return { kind: 'caught', by: note.test, saying: note.message };
  const other = notes.flatMap((note) =>
    note.kind === 'hook failed' || note.kind === 'failed' ? [note.message] : [],
  );
  const ran = notes.filter(({ kind }) => kind === 'passed').length;
  if (ran === 0 && other.length === 0) return { kind: 'not tried', because: 'no test ran' };
  const thrown = other.length > 0 ? `; thrown, and not asserted: ${other.slice(0, 2).join('; ')}` : '';
  return { kind: 'survived', because: `${ran} tests passed${timedOut ? ', then none ended' : ''}${thrown}` };
}

function lineOf({ name }: Mutant, verdict: Verdict, took: string): string {
  switch (verdict.kind) {
    case 'caught':
      return `caught    ${name}\n          by "${verdict.by}" (${took})\n          ${verdict.saying}`;
    case 'survived':
      return `SURVIVED  ${name}\n          ${verdict.because} (${took})`;
    case 'not tried':
      return `NOT TRIED ${name}\n          ${verdict.because} (${took})`;
  }
}

/** All of them, so many at once. */
async function each<T, R>(items: readonly T[], jobs: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  const queue = items.entries();
  const lane = async (): Promise<void> => {
    for (const [at, item] of queue) results[at] = await work(item);
  };
  await Promise.all(Array.from({ length: jobs }, lane));
  return results;
}

const seconds = (from: number): string => `${((performance.now() - from) / 1000).toFixed(1)} s`;

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, () => stop.abort(new Error(`stopped by ${signal}`)));
main(stop.signal).then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exit(1);
  },
);
