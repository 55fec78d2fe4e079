/**
 * The driver tells of every connection that is handed out and comes back: three events for each statement, which the pool,
 * its server, the topology and the client pass on to one another. Nobody listens at the end of it, and it is a twelfth of
 * what a read by primary key costs.
 */
import type { MongoClient } from 'mongodb';
import { onEachServer } from './driver-inside.js';

const OF_EACH_STATEMENT = ['connectionCheckOutStarted', 'connectionCheckedOut', 'connectionCheckedIn'];

/** From now on `client` does not tell of these. Nothing happens when the driver's inside is another one. */
export function quietPools(client: MongoClient): void {
  onEachServer(client, ({ pool }) => {
    for (const event of OF_EACH_STATEMENT) pool.removeAllListeners(event);
  });
}
