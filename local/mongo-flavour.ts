// What the servers that speak MongoDB's protocol have in common, and in what they differ.

import type { MongoClient } from 'mongodb';
import type { Supervised } from './supervise.js';

export type MongoKind = 'mongod' | 'secantusd-rs' | 'secantusd-py';

export interface Flavour {
  readonly urlOptions: Readonly<Record<string, string>>;
  readonly args: (o: {
    readonly port: number;
    readonly data: string;
    readonly folder: string;
    readonly auth: boolean;
  }) => string[];
  /** Makes the user root in empty data, and leaves the server not running. */
  readonly makeRoot: (o: FirstStart) => Promise<void>;
  /** One attempt: throws until the server takes writes. */
  readonly ready: (client: MongoClient, port: number) => Promise<void>;
}

export interface FirstStart {
  readonly password: string;
  /** Starts it for the time being. */
  readonly begin: (auth: boolean) => Promise<Supervised>;
  readonly urlOf: (port: number, user?: 'root') => string;
}
