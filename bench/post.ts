// A caller of the API. Not by Node's `fetch`: the millisecond of processor time that it costs for each request is the caller's,
// and would be counted as ours.

import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import { json } from 'node:stream/consumers';
import type { Stage } from './stage.js';

const agent = new Agent({ keepAlive: true });

/** Sends a JSON body, and throws unless the answer has the status expected. */
export async function post<T>(
  { apiUrl, token }: Pick<Stage, 'apiUrl' | 'token'>,
  path: string,
  body: object,
  { wait, expected }: { readonly wait?: number; readonly expected: number },
): Promise<T> {
  const sent = request(`${apiUrl}${path}`, {
    method: 'POST',
    agent,
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      ...(wait === undefined ? {} : { prefer: `wait=${wait}` }),
    },
  });
  sent.end(JSON.stringify(body));
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  const answer = await json(response);
  if (response.statusCode !== expected)
    throw new Error(`${path} answered ${response.statusCode}: ${JSON.stringify(answer)}`);
  return answer as T;
}
