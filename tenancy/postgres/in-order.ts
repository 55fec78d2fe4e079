/** Statements of one transaction, in as few round trips as they can go. */
import type { ClientBase, QueryResult } from 'pg';

/** One without values may go with others in one text. */
export type Statement = string | { readonly text: string; readonly values: readonly unknown[] };

/** The results of all, in order. The first that fails ends it. */
export async function queryInOrder(
  client: ClientBase,
  statements: readonly Statement[],
): Promise<QueryResult[]> {
  const results: QueryResult[] = [];
  let together: string[] = [];
  const sendThose = async (): Promise<void> => {
    if (together.length === 0) return;
    // One text of many statements is answered by a list.
    const answer: QueryResult | QueryResult[] = await client.query(together.join(';\n'));
    results.push(...[answer].flat());
    together = [];
  };
  for (const statement of statements) {
    if (typeof statement === 'string') together.push(statement);
    else {
      await sendThose();
      results.push(await client.query(statement.text, [...statement.values]));
    }
  }
  await sendThose();
  return results;
}
