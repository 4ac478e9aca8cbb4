import { z } from 'zod';
import type { Role } from '../../identity/index.ts';
import type { ControlContext } from '../context.ts';
import type { KeyUsage } from '../key-usage.ts';
import type { LiveState } from '../live-state.ts';
import type { PostgresRevocationFeed } from '../revocation-feed.ts';
import type { AckWaiters } from '../enforcement-wait.ts';
import { Problem } from './problem.ts';

/** What handlers work with. */
export interface RouteServices {
  readonly context: ControlContext;
  readonly waiters: AckWaiters;
  readonly usage: KeyUsage;
  readonly feed: PostgresRevocationFeed;
  readonly node: string;
  readonly live: LiveState;
  readonly version: string;
  readonly unavailableBecause: () => string | undefined;
  /** Something was changed here: this node shall see it without waiting for the notification. */
  readonly onChanged: () => void;
}

export interface RouteCall<Params, Query, Body> {
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  /** Id of the token that asks: the `actor` of every change. */
  readonly actor: string;
  /** Version of an If-Match header. */
  readonly ifMatch: number | undefined;
  readonly services: RouteServices;
}

export interface RouteAnswer {
  readonly body: unknown;
  /** Sent as ETag. */
  readonly version?: number;
}

/** One operation: what validates it, what documents it and what does it. */
export interface Route {
  readonly method: 'get' | 'post' | 'patch' | 'delete';
  /** OpenAPI form, e.g. `/connections/{name}`. */
  readonly path: string;
  readonly summary: string;
  /** The least role that may. */
  readonly role: Role;
  readonly params: z.ZodType;
  readonly query: z.ZodType;
  /** Undefined: the operation takes no body. */
  readonly body: z.ZodType | undefined;
  readonly response: z.ZodType;
  readonly status: number;
  /** An If-Match header is heeded: 412 when the version is another. */
  readonly ifMatch: boolean;
  readonly handle: (call: RouteCall<never, never, never>) => Promise<RouteAnswer>;
}

const NOTHING = z.strictObject({});

export interface RouteDefinition<Params extends z.ZodType, Query extends z.ZodType, Body extends z.ZodType> {
  readonly method: Route['method'];
  readonly path: string;
  readonly summary: string;
  readonly role: Role;
  readonly params?: Params;
  readonly query?: Query;
  readonly body?: Body;
  readonly response: z.ZodType;
  /** Default 200. */
  readonly status?: number;
  /** Default false. */
  readonly ifMatch?: boolean;
  readonly handle: (
    call: RouteCall<z.output<Params>, z.output<Query>, z.output<Body>>,
  ) => Promise<RouteAnswer>;
}

/** Ties the types of a handler to the schemas that validate its input. */
export const route = <
  Params extends z.ZodType = typeof NOTHING,
  Query extends z.ZodType = typeof NOTHING,
  Body extends z.ZodType = typeof NOTHING,
>(
  definition: RouteDefinition<Params, Query, Body>,
): Route => ({
  params: NOTHING,
  query: NOTHING,
  body: undefined,
  status: 200,
  ifMatch: false,
  ...definition,
});

/** An opaque cursor after which a page begins. */
export const cursorOf = (after: string): string => Buffer.from(`c1:${after}`, 'utf8').toString('base64url');

/** @throws Problem 400 for what is no cursor of ours */
export const afterCursor = (cursor: string | undefined): string => {
  if (cursor === undefined) return '';
  const text = Buffer.from(cursor, 'base64url').toString('utf8');
  if (!text.startsWith('c1:') || !text.isWellFormed() || text.includes('\u0000') || text.includes('\ufffd'))
    throw new Problem(400, 'invalid', 'query.cursor: is not a cursor of this list');
  return text.slice(3);
};

/** A page out of one item more than it holds, so that its end is known. */
export const pageOf = <Item>(
  found: readonly Item[],
  limit: number,
  keyOf: (item: Item) => string,
  view: (item: Item) => unknown,
): RouteAnswer => {
  const items = found.slice(0, limit);
  const last = items.at(-1);
  const next = found.length > limit && last !== undefined ? cursorOf(keyOf(last)) : null;
  return { body: { items: items.map(view), next } };
};

/** A page of what is in memory, in the order of a key that no two items share. */
export const pageOfAll = <Item>(
  all: readonly Item[],
  query: { readonly cursor?: string | undefined; readonly limit: number },
  keyOf: (item: Item) => string,
): RouteAnswer => {
  const after = afterCursor(query.cursor);
  const found = all
    .filter((item) => keyOf(item) > after)
    .sort((left, right) => (keyOf(left) < keyOf(right) ? -1 : 1));
  return pageOf(found, query.limit, keyOf, (item) => item);
};
