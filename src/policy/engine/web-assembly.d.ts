/** The part of the WebAssembly interface that is used here; Node has it, its type package does not. */
declare namespace WebAssembly {
  interface Module {
    /** Opaque: it is only ever handed on. */
    readonly [Symbol.toStringTag]: 'WebAssembly.Module';
  }
  class Instance {
    readonly exports: Readonly<Record<string, unknown>>;
  }
  interface WebAssemblyInstantiatedSource {
    readonly instance: Instance;
    readonly module: Module;
  }
  interface MemoryDescriptor {
    readonly initial: number;
    readonly maximum?: number;
  }
  class Memory {
    constructor(descriptor: MemoryDescriptor);
    readonly buffer: ArrayBuffer;
  }
  function compile(bytes: Uint8Array): Promise<Module>;
}
