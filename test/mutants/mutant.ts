/** A guard broken on purpose: one change in the text of one source file, which tests must notice. */
import { readFileSync } from 'node:fs';

export interface Mutant {
  /** What is broken, as an operator would say it. */
  readonly name: string;
  /** From the repository's root. */
  readonly file: string;
  /** As it stands in the file, as often as `times` says (once by default). */
  readonly find: string;
  readonly times?: number;
  readonly replace: string;
  /** The test files of which one must notice. */
  readonly tests: readonly string[];
  /** A regular expression over the full names of tests: those that have to notice, where the others take long. */
  readonly named?: string;
  /** What is changed is a whole server's (roles, templates, rights that end in FLUSHALL): not the one that all share. */
  readonly ownServer?: 'postgres' | 'redis';
}

/** Variables of the environment by which Jest's processes are told what to do. */
export const VARIABLES = {
  /** The mutant to apply, as JSON; without it nothing is changed. */
  mutant: 'TENANTRY_MUTANT',
  /** A file that gets a line (a Note as JSON) for each thing that was seen. */
  notes: 'TENANTRY_MUTANT_NOTES',
  /** Servers in the place of the shared ones, with nothing in them yet, as JSON (OwnServer). */
  server: 'TENANTRY_MUTANT_SERVER',
} as const;

export type OwnServer = { readonly postgresUrl: string } | { readonly redisUrl: string };

export type Note =
  | { readonly kind: 'loaded' }
  | { readonly kind: 'passed'; readonly test: string }
  | {
      readonly kind: 'failed';
      readonly test: string;
      readonly message: string;
      readonly isAssertion: boolean;
    }
  /** A hook's failure proves nothing: what was set up may just not work. */
  | { readonly kind: 'hook failed'; readonly message: string };

/** @throws Error when the text is not there as often as it ought to be: the mutant no longer says what it breaks */
export function applied({ name, file, find, times = 1, replace }: Mutant, source: string): string {
  const parts = source.split(find);
  if (parts.length - 1 !== times)
    throw new Error(`"${name}": its text is ${parts.length - 1} times in ${file}, and not ${times}`);
  if (find === replace) throw new Error(`"${name}" changes nothing`);
  return parts.join(replace);
}

/** Why it cannot be applied to the sources as they are; undefined when it can. */
export function misfit(mutant: Mutant): string | undefined {
  try {
    applied(mutant, readFileSync(mutant.file, 'utf8'));
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

export function chosenMutant(): Mutant | undefined {
  const text = process.env[VARIABLES.mutant];
  return text === undefined ? undefined : (JSON.parse(text) as Mutant);
}
