/** What a probe asks in one transaction, in as few round trips as it can go. */
import type { ClientBase, QueryConfig, QueryResult } from 'pg';

/** How many rows a probe saw, or got through, in a table. */
export interface Answer {
  readonly probe: string;
  readonly target: string;
  readonly seen: number;
}

/**
 * The answers among the results, in order. The first statement that fails ends it.
 * @param statements those without values go together, as one text
 */
export async function answersTo(
  client: ClientBase,
  statements: readonly (string | QueryConfig)[],
): Promise<Answer[]> {
  const answers: Answer[] = [];
  let together: string[] = [];
  const ask = async (query: string | QueryConfig): Promise<void> => {
    // One text of many statements is answered by a list.
    const results: QueryResult<Partial<Answer>> | QueryResult<Partial<Answer>>[] = await client.query(query);
    answers.push(...[results].flat().flatMap(({ rows }) => rows.filter(isAnswer)));
  };
  const askTogether = async (): Promise<void> => {
    if (together.length > 0) await ask(together.join(';\n'));
    together = [];
  };
  for (const statement of statements) {
    if (typeof statement === 'string') together.push(statement);
    else {
      await askTogether();
      await ask(statement);
    }
  }
  await askTogether();
  return answers;
}

const isAnswer = (row: Partial<Answer>): row is Answer => row.probe !== undefined;
