/** Checks what came in against a schema and says which fields are wrong, in the words of the request. */
import type { z } from 'zod';
import type { FieldError } from '../domain/problem.js';
import { ValidationError } from './problem.js';

/** Enough to mend a request by; a batch of 1,000 could have many thousands. */
const MOST_ERRORS = 20;

/**
 * The value as the schema gives it.
 * @param whole what the value itself is called, for an error that is about no field of it
 * @throws ValidationError
 */
export function validate<S extends z.ZodType>(schema: S, value: unknown, whole: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const errors = result.error.issues.flatMap((issue) => describeIssue(issue, whole)).slice(0, MOST_ERRORS);
  const [first, ...rest] = errors;
  throw new ValidationError([first ?? { field: whole, message: 'is not valid' }, ...rest]);
}

function describeIssue(issue: z.core.$ZodIssue, whole: string): FieldError[] {
  // Zod's own message repeats every unknown key in full, whatever they are.
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => ({
      field: fieldPath([...issue.path, key]),
      message: 'is not a known field',
    }));
  return [{ field: fieldPath(issue.path) || whole, message: issue.message }];
}

/** `['tenants', 3, 'slug']` -> `tenants[3].slug`. A key that the caller made up is cut and cleaned. */
function fieldPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    const name = String(part)
      .slice(0, 64)
      .replace(/[^\x20-\x7e]/g, '?');
    return text === '' ? name : `${text}.${name}`;
  }, '');
}
