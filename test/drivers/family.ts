import type { TestContext } from 'node:test';
import type { PrivateNetwork } from '../support/private-network.ts';

/** A server of the private network, published under a connection's name. */
export interface PublishedTarget {
  readonly host: string;
  readonly port: number;
}

/** One program with one driver, run as its user runs it. */
export interface DriverCase {
  /** `CLIENT, SERVER, what is special`: unique. */
  readonly name: string;
  /** The published connection that its streams must be seen on. */
  readonly connection: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** All that it must write to standard output, directly as well as through the tunnel. */
  readonly prints: string | RegExp;
  /** Streams that it needs at most through the tunnel; default: any number, and at least one. */
  readonly maxStreams?: number;
  /** Streams that its server ends without a byte, as a PostgreSQL does after a cancel request; default: none. */
  readonly unanswered?: number;
}

/** For `prints`: these lines and no others, of which some are not the same each time. */
export const inLines = (...lines: readonly (string | RegExp)[]): RegExp => {
  const source = lines.map((line) =>
    typeof line === 'string' ? line.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`) : line.source,
  );
  return new RegExp(`^${source.join('\\n')}\\n$`);
};

/** The drivers of one language, or the clients of one kind. */
export interface DriverFamily {
  readonly name: string;
  /** Debian's packages by the programs that they bring. */
  readonly needs: Readonly<Record<string, string>>;
  /** Why it cannot run here for another reason; a line for the test's `skip`. */
  readonly missing?: string | false;
  /** Starts its own servers; those of ./servers are there already. */
  setUp(
    t: TestContext,
    network: PrivateNetwork,
  ): Promise<{
    readonly targets: Readonly<Record<string, PublishedTarget>>;
    readonly cases: readonly DriverCase[];
  }>;
}
