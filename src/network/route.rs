//! The kernel's routing socket (rtnetlink(7)), for as many of its requests as it takes to move a device.
//!
//! What lives here: messages as bytes, and the conversation. What may not: what they are good for.

use crate::error::{Error, ErrorKind, OsContext, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use std::cell::Cell;

/// A routing socket.
#[derive(Debug)]
pub(super) struct Route {
    socket: OwnedFd,
    /// How many requests were made. It is the number of the last one, which its answers bear: those of a request that
    /// was given up half-way must not pass for them.
    asked: Cell<u32>,
}

/// What a device is to be recognized by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Its number, in its namespace.
    pub(super) index: i32,
    /// `IFF_UP` (netdevice(7)).
    pub(super) up: bool,
}

/// An address of a device, without the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    family: u8,
    prefix: u8,
    flags: u8,
    /// Of those in [`KEPT`], with their numbers.
    attributes: Vec<(u16, Vec<u8>)>,
}

/// The attributes that make an address; what is left out the kernel counts, or derives.
const KEPT: [u16; 4] = [libc::IFA_ADDRESS, libc::IFA_LOCAL, libc::IFA_BROADCAST, libc::IFA_FLAGS];

/// The most bytes of one answer. The kernel's own limit for lists is half of it.
const MAX_ANSWER: usize = 64 << 10;

impl From<OwnedFd> for Route {
    fn from(socket: OwnedFd) -> Self {
        Self { socket, asked: Cell::new(0) }
    }
}

impl AsFd for Route {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Route {
    /// Opens one in this thread's network namespace.
    pub(super) fn open() -> Result<Self> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        // Without a protocol: that of number 0, which is NETLINK_ROUTE.
        socket_with(family, SocketType::RAW, flags, None)
            .map(Self::from)
            .os(|| "socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)")
    }

    /// Finds the device `name`, if there is one.
    pub(super) fn find(&self, name: &str) -> Result<Option<Link>> {
        match self.link(name) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            found => found.map(Some),
        }
    }

    /// The device `name`.
    pub(super) fn link(&self, name: &str) -> Result<Link> {
        let request = Request::about_link(libc::RTM_GETLINK, 0, 0).attribute(IFLA_IFNAME, &terminated(name));
        let answers = self.ask(request).os(|| format!("RTM_GETLINK({name:?})"))?;
        let link = answers.iter().find(|(kind, _)| *kind == libc::RTM_NEWLINK);
        let link = link.and_then(|(_, body)| {
            Some(Link { index: number(body, 4)?, up: number(body, 8)? & libc::IFF_UP != 0 })
        });
        link.ok_or_else(|| Error::new(ErrorKind::PeerMisbehaved, "RTM_GETLINK", "an answer without a device"))
    }

    /// Moves the device with this number to `namespace`, where it has this name, and is `up` or not.
    pub(super) fn move_link(
        &self,
        index: i32,
        namespace: BorrowedFd<'_>,
        name: &str,
        up: bool,
    ) -> Result<()> {
        let namespace = namespace.as_raw_fd().to_ne_bytes();
        let flags = if up { libc::IFF_UP } else { 0 };
        let request = Request::about_link(libc::RTM_SETLINK, index, flags)
            .attribute(IFLA_NET_NS_FD, &namespace)
            .attribute(IFLA_IFNAME, &terminated(name));
        self.ask(request).map(drop).os(|| format!("RTM_SETLINK({index}, IFLA_NET_NS_FD, {name:?})"))
    }

    /// The addresses of the device with this number that mean the same elsewhere: permanent, and of global scope.
    pub(super) fn addresses(&self, index: i32) -> Result<Vec<Address>> {
        let request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; ADDRESS_HEADER]);
        let answers = self.ask(request).os(|| "RTM_GETADDR")?;
        let addresses = answers.iter().filter(|(kind, _)| *kind == libc::RTM_NEWADDR);
        Ok(addresses.filter_map(|(_, body)| Address::read(body, index)).collect())
    }

    /// Gives the device with this number an address.
    pub(super) fn add_address(&self, index: i32, address: &Address) -> Result<()> {
        let Address { family, prefix, flags, attributes } = address;
        let header = [[*family, *prefix, *flags, libc::RT_SCOPE_UNIVERSE], index.to_ne_bytes()].concat();
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let request = Request::new(libc::RTM_NEWADDR, flags, &header);
        let request =
            attributes.iter().fold(request, |request, (kind, value)| request.attribute(*kind, value));
        self.ask(request).map(drop).os(|| format!("RTM_NEWADDR({index})"))
    }

    /// Asks, and takes answers up to the one that says that it is the last: kinds and bodies.
    fn ask(&self, request: Request) -> Result<Vec<(u16, Vec<u8>)>, Errno> {
        let sequence = self.asked.get().wrapping_add(1);
        self.asked.set(sequence);
        let request = request.finish(sequence);
        retry_on_intr(|| send(&self.socket, &request, SendFlags::empty()))?;
        let mut answers = Vec::new();
        let mut bytes = vec![0; MAX_ANSWER];
        loop {
            let (_, count) = retry_on_intr(|| recv(&self.socket, bytes.as_mut_slice(), RecvFlags::TRUNC))?;
            let mut rest = bytes.get(..count).ok_or(Errno::MSGSIZE)?;
            while let Some((Message { kind, sequence: of, body }, after)) = split_message(rest) {
                rest = after;
                match i32::from(kind) {
                    _ if of != sequence => {}
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        return match number(body, 0).unwrap_or(0) {
                            0 => Ok(answers),
                            errno => Err(Errno::from_raw_os_error(-errno)),
                        };
                    }
                    _ => answers.push((kind, body.to_vec())),
                }
            }
        }
    }
}

impl Address {
    /// Reads an `ifaddrmsg` and its attributes, if it is one of this device's that would be kept.
    fn read(body: &[u8], of: i32) -> Option<Self> {
        let ([family, prefix, flags, scope], index) = (*body.first_chunk()?, number(body, 4)?);
        let mut attributes = Vec::new();
        let mut rest = body.get(ADDRESS_HEADER..)?;
        while let Some((kind, value, after)) = split_attribute(rest) {
            rest = after;
            if KEPT.contains(&kind) {
                attributes.push((kind, value.to_vec()));
            }
        }
        // The wider flags, where the kernel has them, hold the others.
        let wider = attributes.iter().find(|(kind, _)| *kind == libc::IFA_FLAGS);
        let wider = wider.and_then(|(_, value)| number(value, 0)).map_or(flags.into(), i32::cast_unsigned);
        let kept = index == of && scope == libc::RT_SCOPE_UNIVERSE && wider & libc::IFA_F_PERMANENT != 0;
        kept.then_some(Self { family, prefix, flags, attributes })
    }
}

/// Of `ifinfomsg`, which says what is to be changed, too.
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;

/// The sizes of `nlmsghdr`, `rtattr` and `ifaddrmsg` (linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h).
const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
const ADDRESS_HEADER: usize = 8;

/// A message in the making.
struct Request(Vec<u8>);

impl Request {
    /// A request of this kind. Every one is answered.
    fn new(kind: u16, flags: i32, body: &[u8]) -> Self {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(body);
        Self(bytes)
    }

    /// With an `ifinfomsg`: of all flags `IFF_UP` is to be as in `flags`.
    fn about_link(kind: u16, index: i32, flags: i32) -> Self {
        let numbers = [0, index, flags, libc::IFF_UP];
        Self::new(kind, 0, &numbers.map(i32::to_ne_bytes).concat())
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (ATTRIBUTE_HEADER + value.len()) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(aligned(self.0.len()), 0);
        self
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

/// `NLMSG_ALIGN` and `RTA_ALIGN`.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk().copied().map(i32::from_ne_bytes)
}

/// A message that came.
struct Message<'a> {
    kind: u16,
    /// The number of the request that it answers.
    sequence: u32,
    body: &'a [u8],
}

/// The first message, and what comes after it.
fn split_message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = number(bytes, 0).map(i32::cast_unsigned)? as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let sequence = number(bytes, 8).map(i32::cast_unsigned)?;
    let message = Message { kind, sequence, body: bytes.get(HEADER..length)? };
    Some((message, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// The kind and the value of the first attribute, and what comes after it.
fn split_attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
    Some((kind, bytes.get(ATTRIBUTE_HEADER..length)?, bytes.get(aligned(length)..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_name() {
        let route = Route::open().unwrap();
        assert_eq!(route.link("lo").unwrap().index, 1);
        let error = route.link("nosuchdevice").unwrap_err();
        assert_eq!(error.to_string(), "RTM_GETLINK(\"nosuchdevice\"): ENODEV: No such device");
    }

    #[test]
    fn the_answers_to_a_request_that_was_given_up_are_not_the_next_ones() {
        let route = Route::open().unwrap();
        let given_up = Request::about_link(libc::RTM_GETLINK, 0, 0).attribute(IFLA_IFNAME, b"nosuchdevice\0");
        send(&route.socket, &given_up.finish(0), SendFlags::empty()).unwrap();
        assert_eq!(route.link("lo").unwrap().index, 1);
    }

    #[test]
    fn addresses_are_kept_that_mean_the_same_elsewhere() {
        let (family, permanent) = (libc::AF_INET as u8, libc::IFA_F_PERMANENT as u8);
        let body = |flags: u8, scope: u8| {
            let header = [[family, 24, flags, scope], 7_i32.to_ne_bytes()].concat();
            // A label (3), which the kernel makes again, is left out.
            let request = Request::new(libc::RTM_NEWADDR, 0, &header)
                .attribute(libc::IFA_LOCAL, &[10, 0, 0, 1])
                .attribute(3, b"eth0\0");
            request.finish(1)[HEADER..].to_vec()
        };
        let read = Address::read(&body(permanent, 0), 7).unwrap();
        assert_eq!(read.attributes, [(libc::IFA_LOCAL, vec![10, 0, 0, 1])]);
        assert_eq!((read.family, read.prefix), (family, 24));
        assert_eq!(Address::read(&body(0, 0), 7), None, "leased");
        assert_eq!(Address::read(&body(permanent, 253), 7), None, "of the link");
        assert_eq!(Address::read(&body(permanent, 0), 8), None, "another device's");
    }

    #[test]
    fn what_is_cut_short_is_nothing() {
        let whole = Request::about_link(libc::RTM_SETLINK, 1, 0).attribute(IFLA_IFNAME, b"x\0").finish(7);
        let (Message { kind, sequence, body }, rest) = split_message(&whole).unwrap();
        assert_eq!((kind, sequence, body.len(), rest.len()), (libc::RTM_SETLINK, 7, 24, 0));
        assert!((0..whole.len()).all(|length| split_message(&whole[..length]).is_none()));
    }
}
