import { type Message, PacketType } from './packets.ts';

/** The client's messages, in order, for one that looks whether the next one has come. */
export class Inbox {
  readonly #messages: Message[] = [];
  #isEnded = false;
  #wake: () => void = () => undefined;

  add(message: Message): void {
    this.#messages.push(message);
    this.#wake();
  }

  end(): void {
    this.#isEnded = true;
    this.#wake();
  }

  /** Resolves when there is a message, or there will be none. */
  async arrival(): Promise<void> {
    while (this.#messages.length === 0 && !this.#isEnded)
      await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  /** Undefined when the client has gone. */
  async next(): Promise<Message | undefined> {
    await this.arrival();
    return this.#messages.shift();
  }

  /** Whether nobody waits for the rest of an answer: an attention comes next, or the client has gone. */
  get isAnswerUnwanted(): boolean {
    const [next] = this.#messages;
    return next === undefined ? this.#isEnded : next.type === PacketType.attention;
  }
}
