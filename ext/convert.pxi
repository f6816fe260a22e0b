# Values between Python and the C API: addresses, prefixes, peers, events. Errors are OSError.

cdef int check(int result) except -1:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


cdef tuple counters(const void *values, int count):
    cdef const uint64_t *array = <const uint64_t *>values
    return tuple([array[i] for i in range(count)])


cdef object address_out(const dco_address *address):
    cdef int size = 4 if address.family == AF_INET else 16
    if address.family == 0:
        return None
    return (address.ip[:size], address.port, address.scope)


cdef int ip_in(uint8_t *family, uint8_t *target, bytes ip) except -1:
    if len(ip) not in (4, 16):
        raise OSError(EINVAL, "an address has 4 or 16 bytes")
    family[0] = AF_INET if len(ip) == 4 else AF_INET6
    memcpy(target, <const char *>ip, len(ip))
    return 0


cdef int address_in(dco_address *target, object address) except -1:
    memset(target, 0, sizeof(dco_address))
    if address is None:
        return 0
    ip, port, scope = address
    ip_in(&target.family, target.ip, ip)
    target.port = port
    target.scope = scope
    return 0


cdef int prefix_in(dco_prefix *target, bytes ip, int length) except -1:
    memset(target, 0, sizeof(dco_prefix))
    ip_in(&target.family, target.ip, ip)
    if not 0 <= length <= 8 * len(ip):
        raise OSError(EINVAL, "prefix length out of range")
    target.length = length
    return 0


cdef int peer_in(dco_peer_config *config, tx_id, remote, local, vpn_ipv4, vpn_ipv6,
                 keepalive, settings) except -1:
    if tx_id is not None:
        config.present |= DCO_PEER_TX_ID
        config.tx_id = tx_id
    if remote is not None:
        config.present |= DCO_PEER_REMOTE
        address_in(&config.remote, remote)
    if local is not None:
        config.present |= DCO_PEER_LOCAL
        address_in(&config.local, local)
    if vpn_ipv4 is not None:
        if len(vpn_ipv4) != 4:
            raise OSError(EINVAL, "vpn_ipv4 has 4 bytes")
        config.present |= DCO_PEER_VPN_IPV4
        memcpy(config.vpn_ipv4, <const char *><bytes>vpn_ipv4, 4)
    if vpn_ipv6 is not None:
        if len(vpn_ipv6) != 16:
            raise OSError(EINVAL, "vpn_ipv6 has 16 bytes")
        config.present |= DCO_PEER_VPN_IPV6
        memcpy(config.vpn_ipv6, <const char *><bytes>vpn_ipv6, 16)
    if keepalive is not None:
        config.present |= DCO_PEER_KEEPALIVE
        config.keepalive_interval_s, config.keepalive_timeout_s = keepalive
    if settings is not None:
        settings_in(config, settings)
    return 0


# Limits in the order of enum dco_limit, then the bytes of activity; None: stays as it is.

cdef int limits_in(dco_limits *limits, values) except -1:
    for limit, value in enumerate(values[:DCO_LIMITS]):
        if value is not None:
            limits.given |= 1 << limit
            limits.value[limit] = value
    limits.inactive_bytes = values[DCO_LIMITS] or 0
    return 0


cdef tuple limits_out(const dco_limits *limits):
    return tuple([limits.value[limit] for limit in range(DCO_LIMITS)]) + (limits.inactive_bytes,)


# Settings of features: name to numbers, the same way in and out, and so in a state.

cdef int settings_in(dco_peer_config *config, dict settings) except -1:
    for name, values in settings.items():
        if name == "rate_limit":
            config.present |= DCO_PEER_RATE_LIMIT
            config.tx_rate.bits_per_s, config.tx_rate.burst_bytes = values[:2]
            config.rx_rate.bits_per_s, config.rx_rate.burst_bytes = values[2:]
        elif name == "source_check":
            config.present |= DCO_PEER_SOURCE_CHECK
            config.source_check = <dco_source_check><int>values[0]
        elif name == "marking":
            ecn, dscp = values
            config.present |= DCO_PEER_MARKING
            config.marking.ecn = <dco_ecn><int>ecn
            config.marking.dscp = dscp
        elif name == "limits":
            config.present |= DCO_PEER_LIMITS
            limits_in(&config.limits, values)
        elif name == "mss_clamp":
            config.present |= DCO_PEER_MSS_CLAMP
            config.mss_clamp = values[0]
            config.mss_measure = <dco_measure><int>values[1]
        elif name == "path_limit":
            config.present |= DCO_PEER_PATH_LIMIT
            config.path_limit = values[0]
        elif name == "multicast":
            config.present |= DCO_PEER_NO_GROUPS
            config.no_groups = not values[0]
        else:
            raise OSError(EINVAL, f"{name} is no setting")
    return 0


cdef dict settings_out(const dco_peer_config *config):
    return {
        "rate_limit": (
            config.tx_rate.bits_per_s, config.tx_rate.burst_bytes,
            config.rx_rate.bits_per_s, config.rx_rate.burst_bytes,
        ),
        "source_check": (<int>config.source_check,),
        "marking": (<int>config.marking.ecn, <int>config.marking.dscp),
        "limits": limits_out(&config.limits),
        "mss_clamp": (config.mss_clamp, <int>config.mss_measure),
        "path_limit": (config.path_limit,),
        "multicast": (not config.no_groups,),
    }


cdef tuple peer_out(const dco_peer_info *info):
    return (
        info.ref.id, info.ref.generation, info.config.tx_id, info.config.transport,
        address_out(&info.config.remote), address_out(&info.config.local),
        info.config.vpn_ipv4[:4], info.config.vpn_ipv6[:16],
        info.config.keepalive_interval_s, info.config.keepalive_timeout_s,
        counters(&info.stats, CORE_PEER_COUNTERS),
        info.last_received_ns, info.last_sent_ns, info.now_ns, settings_out(&info.config),
        info.path_mtu, info.mss,
    )


cdef tuple event_out(const dco_event *event):
    return (
        event.kind, event.sequence, event.peer.id, event.peer.generation,
        address_out(&event.remote), address_out(&event.local), event.key_id, event.reason,
        counters(&event.stats, CORE_PEER_COUNTERS), event.transport, event.error,
        event.limits,
    )
