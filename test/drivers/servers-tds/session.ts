import type { Inbox } from './inbox.ts';
import { HEADER_BYTES, type Message, PacketType, toPackets } from './packets.ts';
import { type Parameter, readBatch, readCall, readTransaction } from './requests.ts';
import { type Answer, answerTo, type Session } from './statements.ts';
import {
  databaseChanged,
  done,
  DoneStatus,
  DoneToken,
  error,
  metadata,
  returnInt,
  returnStatus,
  row,
  transactionChanged,
} from './tokens.ts';

/** What is written at a time, in packets: a result is never held whole. */
const PACKETS_AT_A_TIME = 8;

export interface Wire {
  readonly inbox: Inbox;
  readonly packetBytes: number;
  /** Resolves when there is room for more. */
  write(bytes: Buffer): Promise<void>;
}

/** The output parameter that tells which prepared statement it is. */
interface Handle {
  readonly name: string;
  readonly value: number;
}

/** Answers what a client asks after its login, until it goes. */
export class RequestLoop {
  readonly #wire: Wire;
  readonly #session: Session;
  readonly #prepared = new Map<number, string>();
  #handles = 0;
  #transactions = 0;
  #tokens: Buffer[] = [];
  #bytes = 0;

  constructor(wire: Wire, session: Session) {
    this.#wire = wire;
    this.#session = session;
  }

  async run(): Promise<void> {
    for (;;) {
      const message = await this.#wire.inbox.next();
      if (message === undefined) return;
      await this.#answer(message);
      await this.#flush(true);
    }
  }

  async #answer({ type, payload }: Message): Promise<void> {
    switch (type) {
      case PacketType.batch:
        return this.#statement(answerTo(readBatch(payload), [], this.#session), DoneToken.done);
      case PacketType.rpc:
        return this.#call(payload);
      case PacketType.transaction:
        return this.#transaction(payload);
      case PacketType.attention:
        // A message of its own, behind the answer that it ended.
        return this.#put(done(DoneToken.done, DoneStatus.attention));
      default:
        throw new Error(`a TDS message of type 0x${type.toString(16)} after the login`);
    }
  }

  async #call(payload: Buffer): Promise<void> {
    const { procedure, parameters } = readCall(payload);
    const run = (sql: string, given: readonly Parameter[], handle?: Handle): Promise<void> =>
      this.#statement(answerTo(sql, given, this.#session), DoneToken.procedure, handle);
    const prepare = (sql: string): Handle => ({ name: parameters[0]?.name ?? '', value: this.#prepare(sql) });
    const text = (index: number): string => String(parameters[index]?.value ?? '');
    switch (procedure) {
      case 'sp_executesql':
        return run(text(0), parameters.slice(2));
      case 'sp_prepare':
        return this.#statement({ kind: 'done' }, DoneToken.procedure, prepare(text(2)));
      case 'sp_prepexec':
        return run(text(2), parameters.slice(3), prepare(text(2)));
      case 'sp_execute': {
        const sql = this.#prepared.get(Number(text(0)));
        if (sql !== undefined) return run(sql, parameters.slice(1));
        const problem = `Could not find prepared statement with handle ${text(0)}.`;
        return this.#statement(
          { kind: 'error', number: 8179, level: 16, text: problem },
          DoneToken.procedure,
        );
      }
      case 'sp_unprepare':
        this.#prepared.delete(Number(text(0)));
        return this.#statement({ kind: 'done' }, DoneToken.procedure);
      default: {
        const problem = `Could not find stored procedure '${procedure}'.`;
        return this.#statement(
          { kind: 'error', number: 2812, level: 16, text: problem },
          DoneToken.procedure,
        );
      }
    }
  }

  #prepare(sql: string): number {
    this.#handles += 1;
    this.#prepared.set(this.#handles, sql);
    return this.#handles;
  }

  async #transaction(payload: Buffer): Promise<void> {
    for (const kind of readTransaction(payload)) {
      if (kind === 'begun') this.#transactions += 1;
      await this.#put(transactionChanged(kind, this.#transactions));
    }
    await this.#put(done(DoneToken.done, DoneStatus.final));
  }

  /** @param last the token that closes the answer; a procedure's has its return status and handle before it */
  async #statement(answer: Answer, last: number, handle?: Handle): Promise<void> {
    const { inbox } = this.#wire;
    const isCall = last === DoneToken.procedure;
    let count: number | undefined;
    switch (answer.kind) {
      case 'rows':
        count = 0;
        await this.#put(metadata(answer.columns));
        for (const values of answer.rows) {
          await this.#put(row(answer.columns, values));
          count += 1;
          if (inbox.isAnswerUnwanted) return this.#put(done(DoneToken.done, DoneStatus.final));
        }
        break;
      case 'wait':
        await this.#flush(false);
        await inbox.arrival();
        break;
      case 'database':
        await this.#put(databaseChanged(answer.database));
        break;
      case 'error':
        await this.#put(error(answer.number, answer.level, answer.text));
        break;
      case 'done':
        break;
    }
    if (isCall) {
      const counted = count === undefined ? DoneStatus.more : DoneStatus.more | DoneStatus.count;
      await this.#put(done(DoneToken.inProcedure, counted, count));
      await this.#put(returnStatus(answer.kind === 'error' ? answer.number : 0));
      if (handle !== undefined) await this.#put(returnInt(handle.name, handle.value));
    }
    const status = answer.kind === 'error' ? DoneStatus.error : DoneStatus.final;
    await this.#put(done(last, count === undefined || isCall ? status : status | DoneStatus.count, count));
  }

  async #put(token: Buffer): Promise<void> {
    this.#tokens.push(token);
    this.#bytes += token.length;
    await this.#flush(false);
  }

  /** Writes whole packets; at the end of the message, all. */
  async #flush(isEnd: boolean): Promise<void> {
    const { packetBytes } = this.#wire;
    const room = packetBytes - HEADER_BYTES;
    if (!isEnd && this.#bytes < room * PACKETS_AT_A_TIME) return;
    const all = Buffer.concat(this.#tokens);
    const now = isEnd ? all : all.subarray(0, all.length - (all.length % room));
    const rest = all.subarray(now.length);
    this.#tokens = rest.length === 0 ? [] : [rest];
    this.#bytes = rest.length;
    await this.#wire.write(toPackets(PacketType.response, now, packetBytes, isEnd));
  }
}
