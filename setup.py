"Everything about the package is read from settings.ini."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here/"settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
extras = {key.removesuffix("_requirements"): cfg[key].split() for key in cfg if key.endswith("_requirements")}

setup(
    name=cfg["lib_name"], version=cfg["version"], description=cfg["description"], author=cfg["author"], url=cfg["git_url"],
    license="Apache-2.0", license_files=["LICENSE"], keywords=cfg["keywords"], python_requires=f">={cfg['min_python']}",
    long_description=(here/"README.md").read_text(encoding="utf-8"), long_description_content_type="text/markdown",
    packages=find_packages(include=["paintsr_nb", "paintsr_nb.*"]), include_package_data=True,
    package_data={"paintsr_nb": ["pictures/*", "models/*", "viewing/static/*"]},
    install_requires=cfg["requirements"].split(), extras_require=extras,
    entry_points={"console_scripts": cfg["console_scripts"].split(), "nbdev": ["paintsr_nb=paintsr_nb._modidx:d"]},
    zip_safe=False,
)
