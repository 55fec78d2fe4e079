/** `npm run fuzz:isolation -- [--minutes 3] [--seed N] [--tenants 2000] [--mongo-tenants 200] [--operations N]` */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { fuzz, type FuzzResult } from './fuzz.js';
import type { Way } from './ground.js';
import { startGround } from './servers.js';

const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '3' },
      seed: { type: 'string' },
      tenants: { type: 'string', default: '2000' },
      'mongo-tenants': { type: 'string', default: '200' },
      operations: { type: 'string' },
    },
  });
  const seed = number('seed', values.seed ?? String(randomInt(2 ** 31)));
  const tenants = number('tenants', values.tenants);
  const mongoTenants = Math.min(tenants, number('mongo-tenants', values['mongo-tenants']));
  const minutes = number('minutes', values.minutes);
  say(`seed ${seed}: the same plan again with --seed ${seed}`);
  const begun = performance.now();
  const { ground, described, close } = await startGround();
  const ways = ground.cells.map(({ way }) => way);
  if (!ways.includes('pooled'))
    say('without a PgBouncer the pooled way is left out, and the plan is another');
  try {
    const result = await fuzz({
      ground,
      seed,
      tenants,
      mongoTenants,
      durationMs: minutes * 60_000,
      ...(values.operations === undefined ? {} : { operations: number('operations', values.operations) }),
      disposable: true,
      prepare: async () =>
        say(`${tenants} tenants were made after ${((performance.now() - begun) / 1_000).toFixed(1)} s`),
      onProgress: ({ operations, wrong }, seconds) =>
        say(`${seconds.toFixed(0)} s: ${operations} operations, ${wrong} wrong`),
    });
    return report(result, ways, described);
  } finally {
    await close();
  }
}

/** A run in which hardly anything was answered shows nothing. */
const ANSWERED_AT_LEAST = 0.5;

function report(
  result: FuzzResult,
  ways: readonly Way[],
  described: Readonly<Record<string, string>>,
): number {
  const { tail, findings, ...summary } = result;
  const idle = [
    ...['postgres', 'mongo', 'redis', 'context'].filter((store) => !summary.byStore[store]),
    ...ways.filter((way) => !summary.byWay[way]),
  ];
  const answered = (summary.answered + summary.refused) / Math.max(summary.operations, 1);
  const vacuous = idle.length > 0 || answered < ANSWERED_AT_LEAST;
  if (findings.length > 0) {
    for (const line of tail) say(line);
    for (const { what, store, way, kind, tenant } of findings)
      say(`${store}/${kind} as tenant ${tenant} (${way}): ${what}`);
    say(`The same plan again: npm run fuzz:isolation -- --seed ${result.seed} --tenants ${result.tenants}`);
  }
  if (vacuous)
    say(
      `Too little was answered to show anything: ${(100 * answered).toFixed(0)} %, nothing in ${idle.join()}`,
    );
  say(JSON.stringify({ ...summary, servers: described }));
  return summary.wrong > 0 || summary.unexpected > 0 || vacuous ? 1 : 0;
}

function number(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0) throw new Error(`--${name} is a number`);
  return value;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exit(1);
  },
);
