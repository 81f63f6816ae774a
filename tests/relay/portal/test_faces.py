"""Logo and colours of a tenant: what may be set, and what recipients then see (issue: pages of people)."""

from __future__ import annotations

import base64
import re
import zlib

import httpx
import pytest

from relay.mail.face import check_colours, contrast, deeper, origin_of, picture_kind
from relay.owner import OwnerError
from tests.fakes.portal import OwnerGateway

HTML = {"Accept": "text/html"}


def chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def png(width: int = 120, height: int = 40, *more: bytes) -> bytes:
    head = chunk(b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00")
    rows = zlib.compress((b"\x00" + b"\x1a\x2b\x8c" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg(width: int = 120, height: int = 40) -> bytes:
    size = b"\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\x01\x01\x11\x00"
    return (
        b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0"
        + (len(size) + 2).to_bytes(2, "big")
        + size
        + b"\xff\xda\x00\x02xyz\xff\xd9"
    )


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#ffffff", "#777777") == pytest.approx(4.478, abs=0.001)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.542, abs=0.001)
    assert deeper("#ff8000") == "#cc6600"


@pytest.mark.parametrize(("colour", "text"), [("#777777", "#ffffff"), ("#ffcc00", "#ffffff"), ("#808080", "#7f7f7f")])
def test_what_cannot_be_read_is_refused_with_what_can(colour: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"needs 4\.5:1") as refused:
        check_colours(colour, text)
    told = str(refused.value)
    for offered in re.findall(r"take the colour (#\w{6})", told):
        check_colours(offered, text)
    for offered in re.findall(r"take the text colour (#\w{6})", told):
        check_colours(colour, offered)
    assert "take the" in told


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "SVG"),
        (b"GIF89a" + b"\x00" * 100, "PNG or JPEG"),
        (b"", "PNG or JPEG"),
        (png(8, 8), "scale"),
        (png(4_000, 20), "scale"),
        (jpeg(2_000, 20), "scale"),
        (png()[:-4], "damaged"),
        (png() + b"<script>", "more than a picture"),
        (png(120, 40, chunk(b"acTL", b"\x00" * 8)), "moves"),
        (png().replace(b"IDAT", b"IDAX"), "damaged"),
        (jpeg() + b"<html>", "more than a picture"),
        (jpeg()[:28], "damaged"),
        (png(120, 40, chunk(b"tEXt", b"x" * 60_000)), "smaller"),
    ],
)
def test_what_is_no_still_picture_of_fit_size_is_no_logo(data: bytes, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        picture_kind(data)


def test_png_and_jpeg_are_logos() -> None:
    assert (picture_kind(png()), picture_kind(jpeg())) == ("png", "jpg")


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Shop.Example/", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("https://bücher.example:8443", "https://xn--bcher-kva.example:8443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://shop.example", None),
        ("https://shop.example/join", None),
        ("https://*.shop.example", None),
        ("https://u:p@shop.example", None),
        ("https://shop.example:port", None),
        ("https://shop", None),
        ("https://sh op.example", None),
        ("*", None),
        ("null", None),
        ("javascript:alert(1)", None),
        ("", None),
    ],
)
def test_a_site_is_scheme_host_and_port(text: str, origin: str | None) -> None:
    if origin is None:
        with pytest.raises(ValueError, match="https://"):
            origin_of(text)
    else:
        assert origin_of(text) == origin


def set_face(owned: OwnerGateway, **values: object) -> dict[str, object]:
    found = owned.owner.call("tenant.set", {"name": "shop", **values})
    assert isinstance(found, dict)
    return found


async def test_pages_carry_logo_and_colours_and_fetch_nothing_from_elsewhere(
    owned_web: httpx.AsyncClient, owned: OwnerGateway
) -> None:
    found = set_face(owned, colour="#0B5", text_colour="#000", logo=base64.b64encode(png()).decode())
    assert (found["colour"], found["text_colour"]) == ("#00bb55", "#000000")
    row = next(row for row in owned.owner.call("purpose.list", {"tenant": "shop"}))
    page = await owned_web.get(f"/optin/{row['optin_key']}", headers=HTML)  # type: ignore[index]  # a list of rows
    assert 'href="/face/00bb55-000000.css"' in page.text and f'src="/logo/{found["logo"]}"' in page.text
    assert 'alt="Shop BV"' in page.text and "http://" not in page.text and "style=" not in page.text
    assert "style-src 'self'; img-src 'self'" in page.headers["content-security-policy"]
    css = await owned_web.get("/face/00bb55-000000.css")
    assert css.headers["content-type"].startswith("text/css") and "--wax: #00bb55; " in css.text
    logo = await owned_web.get(f"/logo/{found['logo']}")
    assert logo.content == png() and logo.headers["content-type"] == "image/png"
    assert logo.headers["x-content-type-options"] == "nosniff" and "immutable" in logo.headers["cache-control"]
    set_face(owned, logo="", colour="")
    assert (await owned_web.get(f"/logo/{found['logo']}")).status_code == 404
    bare = await owned_web.get(f"/optin/{row['optin_key']}", headers=HTML)  # type: ignore[index]  # a list of rows
    assert "/face/" not in bare.text and "/logo/" not in bare.text and "Shop BV" in bare.text
    for path in ("/face/x.css", "/face/00bb55-000000.css.map", "/face/00bb5-000000.css", "/logo/x.png", "/logo/"):
        assert (await owned_web.get(path)).status_code == 404, path


def test_what_is_not_given_stays_and_what_is_empty_ends(owned: OwnerGateway) -> None:
    set_face(owned, colour="#9b2335", logo=base64.b64encode(jpeg()).decode())
    found = set_face(owned, origins=["https://b.example", "https://a.example", "https://a.example/"])
    assert (found["colour"], found["text_colour"]) == ("#9b2335", "#ffffff")
    assert found["origins"] == ["https://a.example", "https://b.example"]
    assert str(found["logo"]).endswith(".jpg")
    picture = owned.owner.call("tenant.logo", {"name": "shop"})
    assert isinstance(picture, dict) and base64.b64decode(picture["picture"]) == jpeg()
    found = set_face(owned, colour="", origins=[""])
    assert (found["colour"], found["text_colour"], found["origins"]) == ("", "", [])
    other = owned.owner.call("tenant.show", {"name": "other"})
    assert isinstance(other, dict) and (other["logo"], other["colour"]) == ("", "")


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"colour": "red"}, "face.colour"),
        ({"colour": "#777777"}, "face.colour"),
        ({"text_colour": "#000000"}, "face.colour"),
        ({"colour": "#ffffff", "text_colour": "url(x)"}, "face.text_colour"),
        ({"origins": ["http://shop.example"]}, "face.origin"),
        ({"origins": [f"https://s{number}.example" for number in range(21)]}, "face.origin"),
        ({"logo": "not base64!"}, "face.logo"),
        ({"logo": base64.b64encode(b"<svg/>").decode()}, "face.logo"),
    ],
)
def test_nothing_is_kept_of_what_is_refused(owned: OwnerGateway, values: dict[str, object], code: str) -> None:
    before = owned.owner.call("tenant.show", {"name": "shop"})
    with pytest.raises(OwnerError) as refused:
        set_face(owned, **values)
    assert refused.value.code == code
    assert owned.owner.call("tenant.show", {"name": "shop"}) == before
