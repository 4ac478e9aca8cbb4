import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import type { Writable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import type { Closer } from '../../support/temporary.ts';
import { Inbox } from './inbox.ts';
import { type Login, readLogin } from './login.ts';
import { FIRST_PACKET_BYTES, type Message, MessageReader, PacketType, toPackets } from './packets.ts';
import {
  chooseEncryption,
  Encryption,
  type EncryptionSetting,
  preloginAnswer,
  readEncryption,
} from './prelogin.ts';
import { RequestLoop } from './session.ts';
import { serverTls } from './tls.ts';
import { done, DoneStatus, DoneToken, error, loggedIn } from './tokens.ts';

export interface TdsEndpointOptions {
  readonly address: string;
  readonly port: number;
  readonly certFile: string;
  readonly keyFile: string;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  /** Default: `supported`. */
  readonly encryption?: EncryptionSetting;
}

/** The first byte of a TLS handshake, which TDS 8.0 begins with. */
const TLS_HANDSHAKE = 0x16;
/** SQL Server's first session of a user. */
const FIRST_SESSION = 51;

const refusal = (number: number, level: number, text: string): Buffer =>
  Buffer.concat([error(number, level, text), done(DoneToken.done, DoneStatus.error)]);

/** As SQL Server says it, of what is wrong with a login. */
const refuse = (login: Login, { user, password, database }: TdsEndpointOptions): Buffer | undefined => {
  if (login.user !== user || login.password !== password)
    return refusal(18456, 14, `Login failed for user '${login.user}'.`);
  if (!['', database].includes(login.database))
    return refusal(
      4060,
      11,
      `Cannot open database "${login.database}" requested by the login. The login failed.`,
    );
  return undefined;
};

class Connection {
  readonly #socket: Socket;
  readonly #options: TdsEndpointOptions;
  readonly #id: number;
  readonly #inbox = new Inbox();
  readonly #reader = new MessageReader((message) => this.#inbox.add(message));
  readonly #gone: Promise<unknown>;
  #isStrict = false;
  #out: Writable;
  #receive: (chunk: Buffer) => void;

  constructor(socket: Socket, options: TdsEndpointOptions, id: number) {
    this.#socket = socket;
    this.#options = options;
    this.#id = id;
    this.#out = socket;
    this.#receive = (chunk) => this.#reader.feed(chunk);
    let isFirst = true;
    socket.on('data', (chunk) => {
      if (isFirst && chunk[0] === TLS_HANDSHAKE) {
        this.#isStrict = true;
        this.#startTls(false);
      }
      isFirst = false;
      try {
        this.#receive(chunk);
      } catch (problem) {
        this.#fail(problem);
      }
    });
    socket.on('error', () => undefined);
    this.#gone = new Promise((resolve) => socket.on('close', resolve));
    socket.on('close', () => this.#inbox.end());
  }

  async serve(): Promise<void> {
    try {
      await this.#serve();
      this.#socket.end();
    } catch (problem) {
      this.#fail(problem);
    }
  }

  async #serve(): Promise<void> {
    const first = await this.#expect(PacketType.prelogin);
    if (first === undefined) return;
    const asked = readEncryption(first);
    const chosen = this.#isStrict
      ? Encryption.notSupported
      : chooseEncryption(asked, this.#options.encryption ?? 'supported');
    await this.#send(preloginAnswer(chosen));
    const isAgreed =
      this.#isStrict || (asked === Encryption.notSupported) === (chosen === Encryption.notSupported);
    if (!isAgreed) return;
    if (chosen !== Encryption.notSupported) this.#startTls(true);

    const login = await this.#expect(PacketType.login);
    if (login === undefined) return;
    if (chosen === Encryption.off) this.#endTls();
    const wanted = readLogin(login, this.#isStrict);
    const refused = refuse(wanted, this.#options);
    if (refused !== undefined) return this.#send(refused);
    const { database } = this.#options;
    await this.#send(loggedIn({ ...wanted, database }));
    const isEncrypted = this.#isStrict || chosen === Encryption.on || chosen === Encryption.required;
    await new RequestLoop(
      { inbox: this.#inbox, packetBytes: wanted.packetBytes, write: (bytes) => this.#write(bytes) },
      { id: this.#id, isEncrypted },
    ).run();
  }

  async #expect(type: number): Promise<Buffer | undefined> {
    const message: Message | undefined = await this.#inbox.next();
    if (message !== undefined && message.type !== type)
      throw new Error(
        `a TDS message of type 0x${message.type.toString(16)} instead of 0x${type.toString(16)}`,
      );
    return message?.payload;
  }

  #send(payload: Buffer): Promise<void> {
    return this.#write(toPackets(PacketType.response, payload, FIRST_PACKET_BYTES, true));
  }

  /** Resolves when there is room for more, or nobody left to write to. */
  async #write(bytes: Buffer): Promise<void> {
    if (this.#out.destroyed) return;
    this.#out.write(bytes);
    // Else a client that reads as fast as this writes is never heard.
    await setImmediate();
    if (this.#out.writableNeedDrain)
      await Promise.race([once(this.#out, 'drain'), this.#gone]).catch(() => this.#gone);
  }

  #startTls(isInPackets: boolean): void {
    const { stream, receive } = serverTls(this.#options, isInPackets, (bytes, written) => {
      if (this.#receive === receive) this.#socket.write(bytes, written);
      else written();
    });
    stream.on('data', (chunk: Buffer) => {
      try {
        this.#reader.feed(chunk);
      } catch (problem) {
        this.#fail(problem);
      }
    });
    // Above all a client that does not trust the certificate.
    stream.on('error', () => this.#socket.destroy());
    this.#socket.on('close', () => stream.destroy());
    this.#out = stream;
    this.#receive = receive;
  }

  /** What follows is not encrypted. */
  #endTls(): void {
    this.#out = this.#socket;
    this.#receive = (chunk) => this.#reader.feed(chunk);
  }

  #fail(problem: unknown): void {
    console.error('scripted TDS endpoint:', problem);
    this.#socket.destroy();
  }
}

/**
 * A server that speaks the real exchange of SQL Server's protocol ([MS-TDS], 7.2 to 7.4 and 8.0), with one account, and
 * knows a few statements by heart. No database is behind it.
 *
 * Encryption is what comes of PRELOGIN (table in 2.2.6.5): all of it with TLS 1.2 whose handshake is in TDS packets
 * (ENCRYPT_ON, ENCRYPT_REQ), the login alone (ENCRYPT_OFF), none (ENCRYPT_NOT_SUP), or TDS 8.0, which begins with TLS 1.2
 * or 1.3 (`strict`). With `encryption: 'required'` who has no TLS gets no login.
 *
 * A login needs the account's user and password (else error 18456, as SQL Server has it) and its database or none (else
 * 4060). There is no integrated or federated authentication, no MARS, and no feature extension is acknowledged.
 *
 * Statements, as a batch or by sp_executesql, sp_prepare, sp_prepexec, sp_execute (./statements.ts; case, spaces and the
 * names of parameters do not matter, parameters stand in the order of their use and are integers or text):
 * - `select 6 * 7 as answer, greeting from greetings`: 42, GREETING (int, nvarchar)
 * - `select @n as n, @word as word`: what was given, as int and nvarchar
 * - `select @@spid as session_id`: int, unlike for each connection
 * - `select encrypt_option from sys.dm_exec_connections where session_id = @@spid`: TRUE when what it answers is encrypted
 * - `select id, line from lines`: LINES rows with lineOf(id), 4 MB in over 1,000 packets
 * - `select long_text from long_texts`: one nvarchar(max) of LONG_TEXT_CHARACTERS times `é`
 * - `select value from generate_series(1, 2147483647)`: int, as fast as they are read; for an attention
 * - `waitfor delay '00:05:00'`: answers only an attention
 * - `select 1 / 0`: error 8134
 * - `set …`, `use DATABASE`, begin, commit and rollback by transaction manager requests: taken, without effect
 * - anything else: error 50000, which quotes it
 */
export const startTdsEndpoint = async (t: Closer, options: TdsEndpointOptions): Promise<void> => {
  let sessions = FIRST_SESSION;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    void new Connection(socket, options, sessions++).serve();
  });
  server.listen(options.port, options.address);
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
};
