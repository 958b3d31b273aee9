import { TenantService, type Tenant as Wire } from "./gen/lethe/v1/tenant_pb.js";
import { broken } from "./errors.js";
import { dateOf, paged } from "./paging.js";
import { type CallOptions, type Transport } from "./transport.js";

/** A data controller. */
export interface Tenant {
  /** `tenants/{tenant}` */
  readonly name: string;
  readonly displayName: string;
  readonly createTime: Date | undefined;
  /** Marks the version. */
  readonly etag: string;
}

/** Calls about tenants. */
export class Tenants {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Creates a tenant. It is sent once: it carries no request id. */
  async create(tenantId: string, displayName: string, options: CallOptions = {}): Promise<Tenant> {
    const request = { tenantId, tenant: { displayName } };
    const answer = await this.#transport.unary(TenantService.method.createTenant, "never", request, options);
    return tenantOf(answer.tenant);
  }

  /**
   * Changes what a tenant is called; `mask` says what changes, the display name unless said. With an `etag` only if it
   * did not change since. It is sent once.
   */
  async update(
    name: string, displayName: string, options: CallOptions & { etag?: string; mask?: readonly string[] } = {},
  ): Promise<Tenant> {
    const request = {
      tenant: { name, displayName, etag: options.etag ?? "" },
      // Without a mask an empty name would be one that is not given.
      updateMask: { paths: [...(options.mask ?? ["display_name"])] },
    };
    const answer = await this.#transport.unary(TenantService.method.updateTenant, "never", request, options);
    return tenantOf(answer.tenant);
  }

  async get(name: string, options: CallOptions = {}): Promise<Tenant> {
    const answer = await this.#transport.unary(TenantService.method.getTenant, "safely", { name }, options);
    return tenantOf(answer.tenant);
  }

  /** The tenants that the caller may see, by name. */
  list(options: CallOptions = {}): AsyncGenerator<Tenant, void, undefined> {
    return paged(async (pageToken) => {
      const answer = await this.#transport.unary(TenantService.method.listTenants, "safely", { pageToken }, options);
      return { all: answer.tenants.map(tenantOf), nextPageToken: answer.nextPageToken };
    });
  }
}

function tenantOf(wire: Wire | undefined): Tenant {
  if (!wire) throw broken("lacks the tenant");
  return { name: wire.name, displayName: wire.displayName, createTime: dateOf(wire.createTime), etag: wire.etag };
}
